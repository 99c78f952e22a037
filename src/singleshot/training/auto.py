"""What "auto" means on this machine: device, number format, images per batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from singleshot.errors import ConfigError
from singleshot.models.network import Network, trace_maps
from singleshot.training.loop import Precision

Amp = Literal["fp32", "bf16", "fp16"]

AUTO_BATCH = 16
# More images of a small data set in each step would leave too few steps.
STEPS_AN_EPOCH = 8
# Gradients of activations need as much as the activations.
FORWARD_AND_BACKWARD = 2.0
MEMORY_SHARE = 0.5
# From this share of multiplications on, a network trains sooner in fp32 with our convolutions than in bf16 on vectors.
MOSTLY = 0.8
# Where the system does not tell.
DEFAULT_MEMORY = 4 * 1024**3


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


def choose_batch(network: Network, size_hw: tuple[int, int], device: torch.device, images: int) -> int:
    """A batch that fits the memory and leaves a small data set some steps an epoch.

    Args:
        network: its activations are counted without computing them.
        size_hw: network input.
        device: whose memory counts.
        images: of the data set.

    Returns:
        A power of two, at least 2, since BatchNorm needs more than one image.
    """
    most = AUTO_BATCH if device.type == "cpu" else 4 * AUTO_BATCH
    fits = MEMORY_SHARE * free_memory(device) / (activation_bytes(network, size_hw) * FORWARD_AND_BACKWARD)
    limit = max(2.0, min(most, fits, images / STEPS_AN_EPOCH))
    return 1 << (int(limit).bit_length() - 1)


def activation_bytes(network: Network, size_hw: tuple[int, int]) -> int:
    """Bytes of all layers' float32 outputs for one image, heads apart; nothing is computed."""
    counts: list[int] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not getattr(module, "inplace", False):
            counts.append(output.shape[1:].numel())

    handles = [m.register_forward_hook(note) for m in network.modules() if not list(m.children())]
    try:
        trace_maps(network, size_hw)
    finally:
        for handle in handles:
            handle.remove()
    return 4 * sum(counts)


def free_memory(device: torch.device) -> int:
    """Bytes that a device has free; for other than CUDA devices those of the host."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return DEFAULT_MEMORY
