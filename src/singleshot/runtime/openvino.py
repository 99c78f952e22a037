"""The network as OpenVINO runs it, without torch.

What comes behind the network is compiled C; without a C compiler, a second graph where that can do it.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.core.once import needs_threads
from singleshot.errors import MissingExtraError, WeightsError
from singleshot.export.memory_limit import check_tensors
from singleshot.export.package import Package
from singleshot.runtime.base import FloatPrecision, Settings, TimedDetections
from singleshot.runtime.postprocess import choose_form, geometry_of
from singleshot.runtime.registry import RUNTIMES, Plan, Wish, only_torch
from singleshot.runtime.source import Source

if TYPE_CHECKING:
    import openvino as ov
else:
    ov = lazy_module("openvino")


MAX_PADDED = 16
"""Images that are computed for nothing before a model for a smaller batch is compiled."""

_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """Runs a compiled network on the CPU.

    Args:
        package: the network.
        precision: of the convolutions that are not int8. Decoding and NMS are always float32.
        parallel: batches that are computed at the same time, each on its share of the cores. 1 takes all cores for one
            batch: the shortest latency.
        threads: cores to use; ``None`` takes what OpenVINO finds.

    Raises:
        WeightsError: OpenVINO cannot read the graph.
    """

    device = "cpu"

    def __init__(
        self, package: Package, precision: FloatPrecision = "fp32", parallel: int = 1, threads: int | None = None
    ) -> None:
        import openvino as ov

        from singleshot.export.graph_openvino import OpenVinoForm
        from singleshot.export.openvino_core import openvino_core

        self._numbers = np.frombuffer(package.parts[1], dtype=np.uint8)  # the model reads them where they are
        try:
            self._model = openvino_core().read_model(package.parts[0], ov.Tensor(self._numbers))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise WeightsError(f"OpenVINO cannot read the compiled network: {reason}") from error
        self._size_hw = package.info.spec.preprocess.size_hw
        geometry = geometry_of(package)
        self._postprocess = choose_form(geometry, OpenVinoForm(geometry))
        self._core = openvino_core()
        self._config = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY" if parallel == 1 else "THROUGHPUT",
            "NUM_STREAMS": str(parallel),
        }
        if threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = str(threads)
        needs_threads(self)
        self._models: dict[int, ov.CompiledModel] = {}
        self._padded = 0
        self._lock = threading.Lock()
        self._local = threading.local()
        self.parallel = parallel
        self.name = f"openvino {'int8' if package.info.quantized else precision}"

    def predict(self, batch: NDArray[np.float32], settings: Settings) -> TimedDetections:
        """Detect in a batch ``[B, 3, H, W]``; may be called from several threads at once."""
        count = len(batch)
        size, request = self._request(count)
        start = perf_counter()
        if count < size:
            batch = np.concatenate([batch, np.zeros((size - count, *batch.shape[1:]), dtype=np.float32)])
        request.infer([batch], share_inputs=True)
        middle = perf_counter()
        heads = [tensor.data[:count] for tensor in request.output_tensors]
        found = self._postprocess(heads, settings)
        return TimedDetections(found, middle - start, perf_counter() - middle)

    def _request(self, count: int) -> tuple[int, Any]:
        """The images that it takes, at least ``count``, and this thread's request of a model."""
        with self._lock:
            size = self._size_for(count)
            if size not in self._models:
                self._models[size] = self._compile(size)
            requests: dict[int, Any] = self._local.__dict__.setdefault("requests", {})
            if size not in requests:
                requests[size] = self._models[size].create_infer_request()
            return size, requests[size]

    def _size_for(self, count: int) -> int:
        """A folder's last batch is padded to the others' size; small batches that go on coming get their own model."""
        size = min((size for size in self._models if size >= count), default=count)
        self._padded += size - count
        if self._padded <= MAX_PADDED:
            return size
        self._padded = 0
        return count

    def _compile(self, batch: int) -> ov.CompiledModel:
        model = self._model.clone()
        try:
            model.reshape([batch, 3, *self._size_hw])
            check_tensors(model, fixed=True)
            return self._core.compile_model(model, "CPU", self._config)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise WeightsError(f"OpenVINO cannot compile the network: {reason}") from error


class OpenVinoRuntime:
    """OpenVINO on CPUs, where it computes in what the processor is quickest in."""

    devices = ("cpu",)
    is_parallel = True

    def available(self) -> MissingExtraError | None:
        """Whether the package is not installed."""
        is_there = find_spec("openvino") is not None
        return None if is_there else MissingExtraError("openvino", "openvino", "`backend='openvino'`")

    def fits(self, wish: Wish) -> str | None:
        """All on the CPU."""
        return only_torch(wish, "openvino")

    def precisions(self, device: str) -> tuple[str, ...]:
        """All; first what the processor has instructions for."""
        native = cpu_capabilities()
        floats = ("bf16", "fp32") if "BF16" in native else ("fp32", "bf16")
        return ("int8", *floats) if "INT8" in native else (*floats, "int8")

    def open(self, source: Source, plan: Plan) -> OpenVinoEngine:
        """Read, or convert, and compile the network."""
        from singleshot.export.openvino_core import must_be_alone

        package = source.package("openvino", plan.int8)
        # Its threads did not come along through a fork.
        return OpenVinoEngine(package, plan.precision, *((1, 1) if must_be_alone() else (plan.parallel, None)))


@lru_cache(maxsize=1)
def cpu_capabilities() -> tuple[str, ...]:
    """Precisions that OpenVINO computes natively on this CPU."""
    from singleshot.export.openvino_core import openvino_core

    return tuple(openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


RUNTIMES.register("openvino")(OpenVinoRuntime())
