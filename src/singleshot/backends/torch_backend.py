"""The network as torch runs it, and what it found."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singleshot.backends.base import PaddedArrays
from singleshot.backends.torch_forward import Forward
from singleshot.config import CoderConfig, PostprocessConfig
from singleshot.multibox.decode import postprocess


class TorchBackend:
    """Runs a network in inference mode, and postprocessing on the same device.

    Args:
        forward: the network, see ``torch_forward``.
        anchors_cxcywh: default boxes in pixels of the input that batches will have, ``[A, 4]``.
        coder: how codes and boxes relate.
        settings: thresholds and NMS.
        num_classes: public classes.
    """

    parallel = 1

    def __init__(
        self,
        forward: Forward,
        anchors_cxcywh: Tensor,
        coder: CoderConfig,
        settings: PostprocessConfig,
        num_classes: int,
    ) -> None:
        self.name = forward.name
        self.device = str(forward.device)
        self._forward = forward
        self._anchors = anchors_cxcywh.to(forward.device)
        self._coder = coder
        self._settings = settings
        self._num_classes = num_classes

    @torch.inference_mode()
    def predict(self, batch: NDArray[np.float32]) -> PaddedArrays:
        """Detect in a batch ``[B, 3, H, W]``."""
        with self._forward.lock:
            start = perf_counter()
            output = self._forward(batch)
            self._wait()
            middle = perf_counter()
            size_hw = (batch.shape[2], batch.shape[3])
            found = postprocess(output, self._anchors, self._settings, self._coder, size_hw, self._num_classes)
            boxes, scores, class_ids, counts = (tensor.cpu().numpy() for tensor in found)
            return PaddedArrays(boxes, scores, class_ids, counts, middle - start, perf_counter() - middle)

    def _wait(self) -> None:
        if self._forward.device.type == "cuda":
            torch.cuda.synchronize(self._forward.device)
