"""Torch as a runtime. It is imported when a network is prepared, and may be absent."""

from __future__ import annotations

from singleshot.core.lazy import missing_torch
from singleshot.core.once import away_from_fork
from singleshot.errors import MissingExtraError
from singleshot.runtime.base import Engine
from singleshot.runtime.registry import RUNTIMES, Plan, Wish
from singleshot.runtime.source import Source


class TorchRuntime:
    """Torch: the CPU, NVIDIA's and AMD's GPUs, Apple's."""

    devices = ("cpu", "cuda", "mps")
    is_parallel = False

    def available(self) -> MissingExtraError | None:
        """Whether the package is not installed."""
        return missing_torch("`backend='torch'`")

    def fits(self, wish: Wish) -> str | None:
        """All but int8."""
        if wish.precision == "int8":
            return "`precision='int8'` runs with `backend='openvino'` or `backend='onnx'` (on the CPU), not with torch"
        return None

    def precisions(self, device: str) -> tuple[str, ...]:
        """bf16 first on GPUs that compute in it."""
        if not device.startswith("cuda"):
            return ("fp32", "bf16")
        import torch

        return ("bf16", "fp32") if torch.cuda.is_bf16_supported(including_emulation=False) else ("fp32",)

    def open(self, source: Source, plan: Plan) -> Engine:
        """Prepare the network for a device."""
        from singleshot.runtime.torch_engine import build_torch_engine

        return away_from_fork(lambda: build_torch_engine(source.network.copy(), source.spec, plan))


RUNTIMES.register("torch")(TorchRuntime())
