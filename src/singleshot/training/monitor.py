"""Statistics of weights and gradients while a run learns: ``monitor.csv``."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor, nn

from singleshot.core.files import is_regular, write_atomically
from singleshot.training.part_names import matching

COLUMNS = ("step", "name", "of", "mean_abs", "norm", "min", "max")


class WeightMonitor:
    """Writes a row for every weight and every gradient that is asked for, each ``every`` steps.

    Args:
        path: the file; rows of a former session after ``step`` are dropped, since a resumed run makes them again.
        network: what learns.
        every: optimiser steps between two looks.
        pattern: names of parameters, as ``freeze`` takes them; empty looks at all.
        originals: names of another system by ours, which the pattern may use, too.
        step: where the run begins.

    Raises:
        ConfigError: the pattern names nothing.
    """

    def __init__(
        self, path: Path, network: nn.Module, every: int, pattern: str, originals: Mapping[str, str], step: int
    ) -> None:
        self.every = every
        names = [name for name, _ in network.named_parameters()]
        chosen = matching([pattern], names, originals, "monitor_pattern") if pattern else names
        self._parameters = {name: network.get_parameter(name) for name in chosen}
        lines = [",".join(COLUMNS), *(_former(path, step) if step else ())]
        write_atomically(path, "\n".join(lines) + "\n")
        self._file: TextIO = path.open("a", newline="", encoding="utf-8")

    def note(self, step: int) -> None:
        """Look at the weights that made the gradients of ``step``, and at those. Waits for the device once."""
        learning = {name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        keys = [(name, "weight") for name in self._parameters] + [(name, "gradient") for name in learning]
        numbers = statistics([*self._parameters.values(), *learning.values()]).tolist()
        rows = [[step, *key, *(f"{value:.6g}" for value in row)] for key, row in zip(keys, numbers, strict=True)]
        csv.writer(self._file, lineterminator="\n").writerows(rows)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@torch.no_grad()
def statistics(tensors: Sequence[Tensor]) -> Tensor:
    """Mean of the absolute values, Euclidean norm, least and largest value of each tensor, ``[N, 4]`` on its device."""
    floats = [tensor.detach().float() for tensor in tensors]
    if not floats:
        return torch.zeros(0, 4)
    return torch.stack([torch.stack([t.abs().mean(), t.norm(), t.min(), t.max()]) for t in floats])


def _former(path: Path, step: int) -> list[str]:
    """Rows up to ``step``; a last one cut short by a crash is dropped."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[1:] if is_regular(path) else []
    rows = [(line, line.split(",", 1)[0]) for line in lines if line.count(",") >= len(COLUMNS) - 1]
    return [line for line, number in rows if number.isdigit() and int(number) <= step]
