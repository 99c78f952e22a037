"""How many images a batch has that fits the memory and the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from singleshot.models.network import Network, trace_maps

# A CPU takes as long for an image in a small batch, and more steps teach more in the same time.
AUTO_BATCH, ACCELERATOR_BATCH = 8, 64
# More images of a small data set in each step would leave too few steps.
STEPS_AN_EPOCH = 8
# Gradients of activations need as much as the activations.
FORWARD_AND_BACKWARD = 2.0
MEMORY_SHARE = 0.5
# Where the system does not tell.
DEFAULT_MEMORY = 4 * 1024**3


def choose_batch(
    network: Network, size_hw: tuple[int, int], device: torch.device, images: int, sharers: int = 1
) -> int:
    """A batch that fits the memory and leaves a small data set some steps an epoch.

    Args:
        network: its activations are counted without computing them.
        size_hw: network input.
        device: whose memory counts.
        images: of the data set.
        sharers: processes that share the memory, where it is the host's.

    Returns:
        A power of two, at least 2, since BatchNorm needs more than one image.
    """
    most = AUTO_BATCH if device.type == "cpu" else ACCELERATOR_BATCH
    memory = free_memory(device) / (1 if device.type == "cuda" else sharers)
    fits = MEMORY_SHARE * memory / (activation_bytes(network, size_hw) * FORWARD_AND_BACKWARD)
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
