"""Losses and speed since the last record."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from singleshot.training.world import ALONE, World


class Window:
    """Means of losses, and where the time went, since the last record. Sums stay on the device.

    Args:
        world: the processes whose shares make a loss.
    """

    def __init__(self, world: World = ALONE) -> None:
        self._world = world
        self._sums: dict[str, Tensor] = {}
        self._batches = 0
        self._images = 0
        self._wait_s = 0.0
        self.restart()

    def restart(self) -> None:
        """Forget the time that passed, as after an evaluation."""
        self._images, self._wait_s = 0, 0.0
        self._since_s = self._wait_since_s = time.perf_counter()

    @property
    def has_steps(self) -> bool:
        """Whether there were steps since the last record."""
        return self._batches > 0

    def _age_s(self) -> float:
        return time.perf_counter() - self._since_s

    def waiting(self) -> None:
        """The network begins to wait for a batch."""
        self._wait_since_s = time.perf_counter()

    def served(self, images: int) -> None:
        """A batch has come."""
        self._wait_s += time.perf_counter() - self._wait_since_s
        self._images += images

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a batch; ``positives`` is a count, not a loss."""
        self._batches += 1
        for name, value in losses.items():
            if name != "positives":
                value = value.detach()
                self._sums[name] = self._sums[name] + value if name in self._sums else value

    def take(self) -> tuple[dict[str, float], float, float]:
        """Mean losses, images per second and wait share, of all processes; the window begins anew. Waits for the
        device once.
        """
        values = self._world.sum(torch.stack(list(self._sums.values())).div(self._batches)).tolist()
        losses = dict(zip(self._sums, values, strict=True))
        age_s = max(self._age_s(), 1e-9)
        own = torch.tensor([self._images / age_s, min(self._wait_s / age_s, 1.0)], dtype=torch.float64)
        images_per_s, wait = self._world.sum(own).tolist()
        rates = images_per_s, wait / self._world.size
        self._sums, self._batches = {}, 0
        self.restart()
        return losses, *rates
