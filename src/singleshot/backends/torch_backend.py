"""The network as torch runs it."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from singleshot.backends.base import FloatPrecision, PaddedArrays
from singleshot.config import CoderConfig, PostprocessConfig
from singleshot.multibox.decode import postprocess


class TorchBackend:
    """Runs a network in inference mode on the device of its parameters.

    Args:
        network: in eval mode.
        anchors_cxcywh: default boxes in pixels of the input that batches will have, ``[A, 4]``.
        coder: how codes and boxes relate.
        settings: thresholds and NMS.
        num_classes: public classes.
        precision: ``bf16`` computes the convolutions in bfloat16 (autocast).
    """

    parallel = 1

    def __init__(
        self,
        network: nn.Module,
        anchors_cxcywh: Tensor,
        coder: CoderConfig,
        settings: PostprocessConfig,
        num_classes: int,
        precision: FloatPrecision = "fp32",
    ) -> None:
        self.name = f"torch {precision}"
        self._network = network
        self._is_bf16 = precision == "bf16"
        self._device = next(network.parameters()).device
        self._anchors = anchors_cxcywh.to(self._device)
        self._coder = coder
        self._settings = settings
        self._num_classes = num_classes

    @torch.inference_mode()
    def predict(self, batch: NDArray[np.float32]) -> PaddedArrays:
        """Detect in a batch ``[B, 3, H, W]``."""
        start = perf_counter()
        # Convolutions on CPUs and GPUs are quickest with the channels innermost.
        images = torch.from_numpy(batch).to(self._device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_bf16):
            output = self._network(images)
        self._wait()
        middle = perf_counter()
        size_hw = (batch.shape[2], batch.shape[3])
        found = postprocess(output, self._anchors, self._settings, self._coder, size_hw, self._num_classes)
        boxes, scores, class_ids, counts = (tensor.cpu().numpy() for tensor in found)
        return PaddedArrays(boxes, scores, class_ids, counts, middle - start, perf_counter() - middle)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
