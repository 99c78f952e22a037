"""Divide images into splits by a hash of their names: the same on every machine, and stable when images are added."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

PARTS = ("train", "val", "test")
TENTH = 0.1
MIN_HELD_OUT = 50
"""Images that are measured on, at the least; a fifth of smaller sets."""
MIN_FOR_TEST = 50
"""With fewer images there is no third part: it would measure nothing and cost training images."""


def assign_splits(names: Sequence[str], *, test: bool = True) -> list[str]:
    """The part of each image: ``train``, ``val`` (measured during training) or ``test`` (never seen by it).

    A tenth is ``test`` (none of fewer than 50 images). A tenth, and at least 50 images or a fifth, is ``val``. Of fewer
    than 5 images all are ``train``. The highest hashes are held out, so more images move the bounds, not the order.

    Args:
        names: paths; only the file's name without its suffix counts where it is the only one, so a moved or converted
            data set stays divided.
        test: whether there is a part ``test``; without it, its images are ``val``.
    """
    positions = [_uniform(key) for key in _keys(names)]
    count = len(names)
    tested = {index for index in range(count) if test and count >= MIN_FOR_TEST and positions[index] >= 1 - TENTH}
    rest = sorted((position for index, position in enumerate(positions) if index not in tested), reverse=True)
    last = 1 - TENTH * (2 if tested else 1)
    wanted = max(
        min(MIN_HELD_OUT, count // 5), sum(position >= last for position in rest) if count >= MIN_FOR_TEST else 0
    )
    bound = rest[wanted - 1] if wanted else 2.0
    return [
        "test" if index in tested else "val" if position >= bound else "train"
        for index, position in enumerate(positions)
    ]


def _keys(names: Sequence[str]) -> list[str]:
    """What of each name counts: its stem, or where several images share it, its folders too."""
    paths = [PurePath(name) for name in names]
    counts = Counter(path.stem for path in paths)
    return [path.stem if counts[path.stem] == 1 else "/".join((*path.parts[-3:-1], path.stem)) for path in paths]


def _uniform(key: str) -> float:
    """A number in [0, 1) that depends on ``key`` alone."""
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogateescape")).digest()[:6], "big") / 2**48
