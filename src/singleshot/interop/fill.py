"""Foreign numbers into the parameters of our network: names, shapes and values are compared here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singleshot.errors import WeightsError
from singleshot.models.config import ModelSpec
from singleshot.weights.file import COUNTER
from singleshot.weights.network import parameter_shapes


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was mapped, left over and missing.

    Attributes:
        source: the system, by the name of its importer.
        architecture: what the file turned out to be.
        mapped: (our parameter, the source's names that it was made from).
        left_over: the source's names that nothing was made from.
        missing: our parameters that the file does not give; they keep a stated default.
        notes: what a person should know, one sentence each.
    """

    source: str
    architecture: str
    mapped: tuple[tuple[str, str], ...]
    left_over: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {self.architecture}",
            f"{len(self.mapped)} parameters mapped, {len(self.left_over)} left over, {len(self.missing)} missing",
        ]
        lines += [f"left over: {name}" for name in self.left_over]
        lines += [f"missing: {name}" for name in self.missing]
        return "\n".join([*lines, *self.notes])


Imported = tuple[ModelSpec, dict[str, Tensor], ImportReport]
"""The detector, its numbers by our parameter names, and what was done."""

SHOWN_PROBLEMS = 4


class Part(NamedTuple):
    """What one of our parameters is made from.

    Attributes:
        value: the numbers in PyTorch's order of axes, where sides of length 1 may be left out or too many; ``None``
            where the file lacks them.
        source: what the file calls them; empty for a constant.
        is_shared: whether one number may stand for all channels.
    """

    value: Tensor | NDArray[Any] | None
    source: str = ""
    is_shared: bool = False


def fill(
    spec: ModelSpec,
    parts: Mapping[str, Part],
    given: Iterable[str],
    system: str,
    origin: object,
    notes: Sequence[str] = (),
    hint: str = "",
) -> Imported:
    """Give every parameter of a network its foreign numbers.

    Args:
        spec: of the network.
        parts: by our parameter name; BatchNorm's step counters may be absent.
        given: names of everything in the file that ought to be used.
        system: the importer, for the report.
        origin: the file, for messages.
        notes: for the report.
        hint: what may be the reason if it does not fit.

    Raises:
        WeightsError: a parameter is missing, one too many, of another shape, or not finite; lists the first of them.
    """
    own = parameter_shapes(spec.network)
    state: dict[str, Tensor] = {}
    problems = [f"{name}: missing" for name in own if name not in parts and not name.endswith(COUNTER)]
    for name, part in parts.items():
        value = _fitted(part, own[name]) if name in own else None
        if value is None:
            problems.append(f"{name}: {_misfit(part, own.get(name))}")
        elif value.is_floating_point() and not bool(torch.isfinite(value).all()):
            problems.append(f"{name}: '{part.source}' holds numbers that are not finite")
        else:
            state[name] = value
    if problems:
        more = f", and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        listed = "; ".join(problems[:SHOWN_PROBLEMS])
        raise WeightsError(f"{origin}: no {spec.name} of {system}: {listed}{more}{hint and f'; {hint}'}")
    mapped = tuple((name, part.source) for name, part in parts.items() if part.source)
    used = {source for _, source in mapped}
    left = tuple(name for name in given if name not in used and not name.endswith(COUNTER))
    return spec, state, ImportReport(system, spec.name, mapped, left, (), tuple(notes))


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without sides of length 1, in which systems differ (scales, linear layers)."""
    return tuple(side for side in shape if side != 1)


def _fitted(part: Part, shape: tuple[int, ...]) -> Tensor | None:
    """The value in our shape, floats as float32; ``None`` where it is missing or has another shape."""
    value = part.value
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.array(value, dtype=np.float32, order="C"))
    if value is None:
        return None
    if part.is_shared and value.numel() == 1 and len(shape) == 1:
        return value.reshape(1).repeat(shape)
    return value.reshape(shape) if squeezed(value.shape) == squeezed(shape) else None


def _misfit(part: Part, shape: tuple[int, ...] | None) -> str:
    if part.value is None:
        return f"'{part.source}' is missing"
    needed = "and has no place" if shape is None else f"needed {shape}"
    return f"'{part.source}' is {tuple(part.value.shape)} in shape, {needed}"
