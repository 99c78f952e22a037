"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Keeps a second network whose weights follow the first one's smoothly.

    The decay grows as ``min(decay, (1 + t) / (10 + t))``, so that the first steps are forgotten quickly.

    Args:
        network: the one that learns.
        decay: of the average once it is warm.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        ours, theirs = self.network.state_dict(), network.state_dict()
        self._averaged = [(ours[k], theirs[k]) for k in ours if ours[k].is_floating_point()]
        self._copied = [(ours[k], theirs[k]) for k in ours if not ours[k].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Move a little towards the network's present weights and statistics."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        ours, theirs = _columns(self._averaged)
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for our, their in self._copied:
            our.copy_(their)


def _columns(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [a for a, _ in pairs], [b for _, b in pairs]
