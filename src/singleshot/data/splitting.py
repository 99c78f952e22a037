"""Divide images into splits by a hash of their names: the same on every machine, and stable when images are added."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import MappingProxyType

FRACTIONS: Mapping[str, float] = MappingProxyType({"train": 0.8, "val": 0.1, "test": 0.1})


def assign_splits(names: Sequence[str], fractions: Mapping[str, float] = FRACTIONS) -> list[str]:
    """The split of each image.

    Args:
        names: file names; only the last part without its suffix counts, so a moved or converted data set stays divided.
        fractions: share of each split, in order; they add up to 1.

    Raises:
        ValueError: the shares do not add up to 1, or one is negative.
    """
    if min(fractions.values(), default=-1.0) < 0 or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ValueError(f"the shares of the splits must add up to 1 and be at least 0: {dict(fractions)}")
    return [_split_at(_uniform(PurePath(name).stem), fractions) for name in names]


def _uniform(stem: str) -> float:
    """A number in [0, 1) that depends on ``stem`` alone."""
    return int.from_bytes(hashlib.sha256(stem.encode(errors="surrogateescape")).digest()[:6], "big") / 2**48


def _split_at(position: float, fractions: Mapping[str, float]) -> str:
    *others, last = fractions
    for name in others:
        position -= fractions[name]
        if position < 0:
            return name
    return last
