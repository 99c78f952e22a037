"""The network as ONNX Runtime runs it."""

from __future__ import annotations

from importlib.util import find_spec
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from singleshot.core.once import needs_threads
from singleshot.errors import MissingExtraError, WeightsError
from singleshot.export.package import Package
from singleshot.runtime.base import Settings, TimedDetections, cores
from singleshot.runtime.postprocess import choose_form, geometry_of
from singleshot.runtime.registry import RUNTIMES, Plan, Wish, only_torch
from singleshot.runtime.source import Source


class OnnxEngine:
    """Runs a compiled network on the CPU.

    Args:
        package: the network, of kind ``onnx``.
        parallel: batches that are computed at the same time, each on its share of the cores.

    Raises:
        WeightsError: ONNX Runtime cannot read the graph.
    """

    device = "cpu"

    def __init__(self, package: Package, parallel: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(cores() // parallel, 1)
        try:
            self._session = onnxruntime.InferenceSession(package.parts[0], options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise WeightsError(
                f"ONNX Runtime cannot read the compiled network: {str(error).strip().splitlines()[0]}"
            ) from error
        needs_threads(self)
        self._postprocess = choose_form(geometry_of(package))
        self.parallel = parallel
        self.name = f"onnx {'int8' if package.info.quantized else 'fp32'}"

    def predict(self, batch: NDArray[np.float32], settings: Settings) -> TimedDetections:
        """Detect in a batch ``[B, 3, H, W]``; may be called from several threads at once."""
        start = perf_counter()
        heads = self._session.run(None, {"images": np.ascontiguousarray(batch)})
        middle = perf_counter()
        found = self._postprocess(heads, settings)
        return TimedDetections(found, middle - start, perf_counter() - middle)


class OnnxRuntime:
    """ONNX Runtime on CPUs."""

    devices = ("cpu",)
    is_parallel = True

    def available(self) -> MissingExtraError | None:
        """Whether the package is not installed."""
        is_there = find_spec("onnxruntime") is not None
        return None if is_there else MissingExtraError("onnxruntime", "onnx", "`backend='onnx'`")

    def fits(self, wish: Wish) -> str | None:
        """All on the CPU but bf16."""
        if wish.precision == "bf16":
            return (
                "`precision='bf16'` runs with `backend='openvino'` or `backend='torch'`: ONNX Runtime has none on CPUs"
            )
        return only_torch(wish, "onnx")

    def precisions(self, device: str) -> tuple[str, ...]:
        """int8 first."""
        return ("int8", "fp32")

    def open(self, source: Source, plan: Plan) -> OnnxEngine:
        """Read, or convert, the network."""
        return OnnxEngine(source.package("onnx", plan.int8), plan.parallel)


RUNTIMES.register("onnx")(OnnxRuntime())
