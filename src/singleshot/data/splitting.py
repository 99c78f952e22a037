"""Divide images into splits by a hash of their names: the same on every machine, and stable when images are added."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import MappingProxyType
from typing import NamedTuple

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


class SplitNames(NamedTuple):
    """Which splits to train on, to watch while training, and to report on; ``None`` where there is none."""

    train: str | None
    val: str | None
    test: str | None


def usual_splits(known: Sequence[str]) -> SplitNames:
    """What a user means who names no split.

    Args:
        known: splits that the files define; none of them means that the images are divided by name (`assign_splits`).

    Returns:
        ``train`` or else ``trainval``; ``val`` or else the test split; ``test`` or else ``val``; by any of the usual
        names (``valid``, ``train2017``, ``2007_train`` ...).
    """
    if not known:
        return SplitNames(*FRACTIONS)

    def first(pattern: str) -> str | None:
        return next((name for name in known if re.fullmatch(pattern, name)), None)

    train = first("train|training") or first("train[-_0-9]+") or first("trainval[-_0-9]*") or first(".*train(val)?")
    val = first("val|valid|validation|dev") or first("(val|valid)[-_0-9]+") or first(".*_val")
    test = first("test|testing") or first("test[-_0-9]+") or first(".*_test")
    return SplitNames(train, val or test, test or val)
