"""The network as torch runs it, and what it found."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singleshot.backends.base import PaddedArrays, cores
from singleshot.backends.finish import Finish
from singleshot.backends.torch_forward import Forward, Output
from singleshot.config import CoderConfig, PostprocessConfig
from singleshot.kernels import detect
from singleshot.multibox.decode import postprocess


class TorchBackend:
    """Runs a network in inference mode, and postprocessing on the same device; on a CPU in C where that can be had.

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
        self._host_anchors = anchors_cxcywh.cpu().numpy()
        self._buffers: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        detect.fits(settings)  # compiles it where that was never done, before a batch is timed

    @torch.inference_mode()
    def predict(self, batch: NDArray[np.float32]) -> PaddedArrays:
        """Detect in a batch ``[B, 3, H, W]``."""
        with self._forward.lock:
            start = perf_counter()
            output = self._forward(batch)
            self._wait()
            middle = perf_counter()
            boxes, scores, class_ids, counts = self._finish(output, (batch.shape[2], batch.shape[3]))
            return PaddedArrays(boxes, scores, class_ids, counts, middle - start, perf_counter() - middle)

    def _finish(self, output: Output, size_hw: tuple[int, int]) -> tuple[NDArray[Any], ...]:
        device = self._forward.device.type
        if device == "cpu" or (device == "cuda" and detect.fits(self._settings)):
            finish = Finish(self._host_anchors, self._settings, self._coder, size_hw, self._num_classes)
            heads = [part.float().numpy() for part in (output if device == "cpu" else self._on_host(output))]
            return finish(heads, 1 if device == "cpu" else cores())
        found = postprocess(output, self._anchors, self._settings, self._coder, size_hw, self._num_classes)
        return tuple(tensor.cpu().numpy() for tensor in found)

    def _on_host(self, output: Output) -> list[Tensor]:
        """Heads in page-locked memory, which a GPU writes ten times as fast; overwritten by the next call. (CUDA only.)

        In C the few candidates are found sooner on the host than by the many small operators that a GPU would launch.
        """
        heads = []
        for index, part in enumerate(output):
            key = (index, tuple(part.shape))
            if key not in self._buffers:
                self._buffers[key] = torch.empty(part.shape, pin_memory=True)
            heads.append(self._buffers[key].copy_(part.float(), non_blocking=True))
        self._wait()
        return heads

    def _wait(self) -> None:
        if self._forward.device.type == "cuda":
            torch.cuda.synchronize(self._forward.device)
