"""Whether a network's numbers or layers were changed since somebody looked; much cheaper than comparing them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SAMPLES = 256
"""Places of a tensor, evenly spread, that are compared. Smaller tensors are compared whole."""


class Watch:
    """Notices changes of a network.

    torch counts what writes to a tensor, or another takes its place, in any usual way: optimizers, ``load_state_dict``,
    ``add_`` and the like under ``no_grad``, new modules. It does not count what writes by way of ``.data`` or NumPy: of
    this, `SAMPLES` places of each tensor are looked at, so that only changes of very few numbers go unseen.

    Args:
        network: as it is now.
    """

    def __init__(self, network: nn.Module) -> None:
        self._mark = _mark(network)
        self._kept = list(_tensors(network))  # so that nothing else gets their ids or their memory
        self._places = [places for _, tensor in self._kept if (places := _places(tensor)) is not None]
        self._elsewhere = [tensor for _, tensor in self._kept if tensor.device.type != "cpu"]
        self._numbers = self._read()

    def has_changed(self, network: nn.Module) -> bool:
        """Whether the network differs from what it was."""
        if _mark(network) != self._mark:
            return True
        return any(not np.array_equal(now, before) for now, before in zip(self._read(), self._numbers, strict=True))

    def _read(self) -> list[NDArray[Any]]:
        """The numbers at all sampled places, an array for each size of an item; sums of what is on another device."""
        sizes = sorted({places.itemsize for places in self._places})
        found: list[NDArray[Any]] = [
            np.concatenate([places for places in self._places if places.itemsize == size]) for size in sizes
        ]
        return [*found, np.array([float(tensor.sum()) for tensor in self._elsewhere])]


def _tensors(network: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    """Parameters and buffers with their modules; shared ones several times."""
    for module in network.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                yield module, tensor


def _mark(network: nn.Module) -> list[tuple[int, int, int]]:
    """Which tensors of which modules these are, and how often torch has seen each being written."""
    return [
        (id(module), tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version)
        for module, tensor in _tensors(network)
    ]


def _places(tensor: Tensor) -> NDArray[Any] | None:
    """Items of a tensor's memory, evenly spread, as integers: a view; ``None`` of another device's memory."""
    size = tensor.element_size()
    if tensor.device.type != "cpu" or not tensor.numel() or size > 8:
        return None
    storage = torch.empty(0, dtype=torch.uint8).set_(tensor.detach().untyped_storage()).numpy()
    items = storage[: len(storage) // size * size].view(f"u{size}")
    return items[:: max(len(items) // SAMPLES, 1)]
