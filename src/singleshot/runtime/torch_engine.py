"""The network as torch runs it, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singleshot.core.lazy import lazy_module
from singleshot.core.once import away_from_fork
from singleshot.core.postprocess import HeadGeometry, PaddedArrays, PaddedDetections
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.kernels import detect
from singleshot.models.build import build_anchors
from singleshot.models.config import ModelSpec
from singleshot.multibox.decode import postprocess
from singleshot.runtime.base import Backend, EngineBackend, Settings, TimedDetections, cores
from singleshot.runtime.postprocess import Rows, by_settings, choose_form
from singleshot.runtime.registry import Plan
from singleshot.runtime.torch_forward import EagerForward, Forward, Output, build_forward

if TYPE_CHECKING:
    import singleshot.models.network as networks
else:
    networks = lazy_module("singleshot.models.network")


class TorchEngine:
    """Runs a network in inference mode, and postprocessing on the same device; on a CPU in C where that can be had.

    Args:
        forward: the network, see ``torch_forward``.
        anchors_cxcywh: default boxes in pixels of the input that batches will have, ``[A, 4]``.
        coder: how codes and boxes relate.
        num_classes: public classes.
    """

    parallel = 1

    def __init__(self, forward: Forward, anchors_cxcywh: Tensor, coder: CoderConfig, num_classes: int) -> None:
        self.name = forward.name
        self.device = str(forward.device)
        self._forward = forward
        self._anchors = anchors_cxcywh.to(forward.device)
        self._coder = coder
        self._num_classes = num_classes
        self._host_anchors = anchors_cxcywh.cpu().numpy()
        self._buffers: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        detect.is_compiled()  # compiles it where that was never done, before a batch is timed

    def predict(self, batch: NDArray[np.float32], settings: Settings) -> TimedDetections:
        """Detect in a batch ``[B, 3, H, W]``; may be called from several threads at once."""
        return away_from_fork(lambda: self._predict(batch, settings))

    @torch.inference_mode()
    def _predict(self, batch: NDArray[np.float32], settings: Settings) -> TimedDetections:
        with self._forward.lock:
            start = perf_counter()
            output = self._forward(batch)
            self._wait()
            middle = perf_counter()
            found = self._finish(output, (batch.shape[2], batch.shape[3]), settings)
            return TimedDetections(found, middle - start, perf_counter() - middle)

    def _finish(self, output: Output, size_hw: tuple[int, int], settings: Settings) -> PaddedArrays:
        device = self._forward.device.type
        each = settings if isinstance(settings, Sequence) else [settings]
        if device == "cpu" or (device == "cuda" and all(detect.fits(own) for own in each)):
            geometry = HeadGeometry(self._host_anchors, self._coder, size_hw, self._num_classes)
            heads = [part.float().numpy() for part in (output if device == "cpu" else self._on_host(output))]
            return choose_form(geometry, threads=1 if device == "cpu" else cores())(heads, settings)

        def run(rows: Rows, own: PostprocessConfig) -> PaddedArrays:
            index = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self._forward.device)
            part = type(output)(*(tensor[index] for tensor in output))
            found = postprocess(part, self._anchors, own, self._coder, size_hw, self._num_classes)
            return PaddedDetections(*(tensor.cpu().numpy() for tensor in found))

        return by_settings(settings, run)

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


def network_backend(network: networks.Network, spec: ModelSpec, settings: PostprocessConfig) -> Backend:
    """A network as it is now, on its device, in float32; for evaluations during training.

    On a CPU it is prepared as for predictions: BatchNorm folded, our convolutions. So it must not be used once the
    network has learnt on; what was prepared goes with the backend.

    Args:
        network: in eval mode.
        spec: what belongs to it.
        settings: thresholds and NMS.
    """
    device = next(network.parameters()).device
    if device.type == "cpu":
        return EngineBackend(build_torch_engine(network, spec, Plan("torch")), settings)
    anchors = build_anchors(spec, network)
    return EngineBackend(TorchEngine(EagerForward(network), anchors, spec.coder, len(spec.class_names)), settings)


def build_torch_engine(network: networks.Network, spec: ModelSpec, plan: Plan) -> TorchEngine:
    """Prepare a network, which may be changed, for the device and the precision of a plan."""
    forward = build_forward(network, spec.preprocess.size_hw, torch.device(plan.device), plan.precision, plan.compile)
    return TorchEngine(forward, build_anchors(spec, network), spec.coder, len(spec.class_names))
