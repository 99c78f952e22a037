"""In which numbers a run computes, and by which convolutions."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from singleshot.errors import ConfigError
from singleshot.models.fast_conv.small_maps import SmallMapConvolutions
from singleshot.models.fast_conv.training import WinogradConvolutions

Amp = Literal["fp32", "bf16", "fp16"]

# From this share of multiplications on, a network trains sooner in fp32 with our convolutions than in bf16 on vectors.
MOSTLY = 0.8


@dataclass(frozen=True, slots=True)
class Precision:
    """How the forward pass computes.

    Attributes:
        autocast: number format of the convolutions; ``None`` is float32 throughout.
        winograd: whether CPUs compute float32 convolutions by our kernel, which torch cannot compile.
        small_maps: whether the network has maps smaller than its kernels, whose gradients need `SmallMapConvolutions`.
    """

    autocast: torch.dtype | None = None
    winograd: bool = False
    small_maps: bool = False

    def forward(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which a forward pass runs."""
        if self.autocast:
            context = ExitStack()
            context.enter_context(torch.autocast(device.type, self.autocast))
            if self.small_maps and device.type == "cpu":
                context.enter_context(SmallMapConvolutions())
            return context
        return WinogradConvolutions() if self.winograd and device.type == "cpu" else nullcontext()


def choose_amp(amp: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device, winograd_share: float = 0.0) -> Amp:
    """``auto`` is the quickest format that is safe on a device.

    bf16 has float32's range and needs no loss scaling. On CPUs it is quicker only where they compute in it, and without
    matrix units not than `WinogradConvolutions`.

    Args:
        amp: what is asked.
        device: where the network runs.
        winograd_share: of the network, if it is not compiled.

    Raises:
        ConfigError: fp16 on a CPU.
    """
    if amp == "fp16" and device.type == "cpu":
        raise ConfigError("amp: fp16 needs a GPU; on a CPU use bf16 or fp32")
    if amp != "auto":
        return amp
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type != "cpu":
        return "fp32"
    bf16_units = cpu_bf16_units()
    return "bf16" if "amx_bf16" in bf16_units or (bf16_units and winograd_share < MOSTLY) else "fp32"


def cpu_bf16_units() -> list[str]:
    """What the CPU multiplies bf16 with: ``avx512_bf16``, ``amx_bf16``; nothing if it does not."""
    # torch.cpu.get_capabilities is younger than the oldest torch that we support.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return [name for name in ("avx512_bf16", "amx_bf16") if capabilities.get(name, False)]


def precision_of(amp: Amp, compiled: bool = False, small_maps: bool = False) -> Precision:
    """How the forward pass computes."""
    formats = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    return Precision(formats[amp], winograd=not compiled, small_maps=small_maps)
