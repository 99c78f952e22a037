"""Pictures that are there twice: pixel for pixel, or resized, compressed again, a little brighter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.data import Problem
from singleshot.errors import ImageError
from singleshot.images.read import read_image

THREADS = 4
COARSE, FINE = 16, 32
"""Sides of the grey thumbnails: the coarse ones are compared all with all, the fine ones decide."""
SAME_COARSE, SAME_FINE = 0.95, 0.98
"""Correlation of two thumbnails of one picture, at the least."""
MOST_DIFFERENT = 0.7
"""No cell of the thumbnails differs by more, in standard deviations of the picture: else something has moved."""
CLOSE, CLOSE_BLUR, MOST_DIFFERENT_CLOSE = 64, 2, 0.5
"""The closer look at pairs that are alike: side of the thumbnails, side of the squares that are averaged, and by how
much none may differ. Copies of half the size, of another brightness and of JPEG quality 30 stay below 0.45; a chess
piece that is gone is above."""
UNSATURATED = (10, 215)
"""Grey levels that say something: what was made brighter ends at white."""
BRIGHTEST = 235
"""Of a colour in the closer look: what was made brighter ends at 255."""
LEAST_SHOWN = 1 / 3
PLAIN = 2.0
"""Standard deviation in grey levels; a picture with less has nothing to compare."""
ROWS_AT_ONCE, PAIRS_AT_ONCE = 1024, 4096
MOST_PAIRS = 100_000
"""Frames of a camera that stands still are all alike: their pairs would fill the memory, and nobody would read them."""


class Twins(NamedTuple):
    """Two pictures that are one.

    Attributes:
        first, second: positions in the list of images, ``first < second``.
        exact: whether all pixels are equal.
        likeness: correlation of their thumbnails, 0..1.
    """

    first: int
    second: int
    exact: bool
    likeness: float


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """What is kept of each picture (about a kilobyte).

    Attributes:
        grey: ``[N, 32, 32]`` uint8.
        digests: of size and pixels; empty where the picture cannot be decoded.
        problems: pictures that cannot be decoded.
    """

    grey: NDArray[np.uint8]
    digests: tuple[bytes, ...]
    problems: tuple[Problem, ...]


def make_thumbnails(paths: Sequence[Path], track: Callable[[Sequence[Path]], Iterable[Path]] = iter) -> Thumbnails:
    """Decode pictures; what cannot be decoded becomes a problem.

    Args:
        paths: image files.
        track: wraps them (a progress bar).
    """

    def look(path: Path) -> tuple[NDArray[np.uint8], bytes, str]:
        try:
            pixels = read_image(path)
        except ImageError as error:
            return np.zeros((FINE, FINE), np.uint8), b"", str(error).removeprefix(f"{path}: ")
        digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(pixels).data)
        small = cv2.resize(pixels, (FINE, FINE), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), digest.digest(), ""

    grey = np.zeros((len(paths), FINE, FINE), np.uint8)
    digests, problems = [], []
    pool = ThreadPoolExecutor(THREADS)
    try:
        for index, (path, seen) in enumerate(zip(track(paths), pool.map(look, paths), strict=True)):
            grey[index] = seen[0]
            digests.append(seen[1])
            if seen[2]:
                problems.append(Problem(path, None, "undecodable-image", "skipped", seen[2]))
    finally:
        pool.shutdown(cancel_futures=True)
    return Thumbnails(grey, tuple(digests), tuple(problems))


def find_twins(thumbnails: Thumbnails) -> list[Twins]:
    """All pairs of equal or alike pictures, the likest first; `confirm_twins` looks closer.

    Two pictures are nearly equal when their grey thumbnails correlate, whatever brightness and contrast, and no place
    differs much, as it would where something has moved between two frames. After ``MOST_PAIRS`` it looks no further.
    """
    exact = set(_equal_digests(thumbnails.digests))
    readable = np.array([bool(digest) for digest in thumbnails.digests], dtype=bool)
    grey = thumbnails.grey.reshape(-1, FINE * FINE)
    blocks = thumbnails.grey.reshape(-1, COARSE, FINE // COARSE, COARSE, FINE // COARSE)
    coarse, has_content = _standardise(blocks.mean(axis=(2, 4)).reshape(-1, COARSE * COARSE))
    coarse[~(readable & has_content)] = 0
    found = [Twins(one, other, True, 1.0) for one, other in sorted(exact)]
    for pairs in _like_pairs(coarse):
        one, other = grey[pairs[:, 0]], grey[pairs[:, 1]]
        likeness = _likeness(one, other, _unsaturated(one) & _unsaturated(other), MOST_DIFFERENT)
        for (first, second), value in zip(pairs.tolist(), likeness.tolist(), strict=True):
            if value >= SAME_FINE and (first, second) not in exact:
                found.append(Twins(first, second, False, value))
        if len(found) >= MOST_PAIRS:
            break
    return sorted(found, key=lambda pair: -pair.likeness)


def confirm_twins(twins: Sequence[Twins], paths: Sequence[Path]) -> list[Twins]:
    """The pairs that are one picture, and not one place at two times: each of their pictures is decoded once more.

    Args:
        twins: of `find_twins`.
        paths: the image files.
    """
    kept, alike = ([pair for pair in twins if pair.exact is exact] for exact in (True, False))
    places = sorted({place for pair in alike for place in (pair.first, pair.second)})
    row_of = {place: row for row, place in enumerate(places)}
    with ThreadPoolExecutor(THREADS) as pool:
        looks = list(pool.map(_look_closer, [paths[place] for place in places]))
    grey, shown = (np.array([look[part] for look in looks]) for part in (0, 1))
    for start in range(0, len(alike), PAIRS_AT_ONCE):
        pairs = alike[start : start + PAIRS_AT_ONCE]
        one, other = (
            [row_of[place] for place in side] for side in ([p.first for p in pairs], [p.second for p in pairs])
        )
        likeness = _likeness(grey[one], grey[other], shown[one] & shown[other], MOST_DIFFERENT_CLOSE)
        kept += [pair for pair, value in zip(pairs, likeness.tolist(), strict=True) if value > 0]
    return kept


def _look_closer(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A larger thumbnail, ``[D]``, and where no colour of it ends; black if the picture can no longer be decoded."""
    try:
        small = cv2.resize(read_image(path), (CLOSE, CLOSE), interpolation=cv2.INTER_AREA)
    except ImageError:
        return np.zeros(CLOSE * CLOSE, np.uint8), np.zeros(CLOSE * CLOSE, bool)
    grey = cv2.blur(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (CLOSE_BLUR, CLOSE_BLUR))
    near = np.ones((2 * CLOSE_BLUR - 1, 2 * CLOSE_BLUR - 1), np.uint8)
    shown = (cv2.dilate(small.max(axis=2), near) < BRIGHTEST) & (grey >= UNSATURATED[0])
    return np.asarray(grey, np.uint8).reshape(-1), shown.reshape(-1)


def _unsaturated(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (grey >= UNSATURATED[0]) & (grey <= UNSATURATED[1])


def _likeness(
    one: NDArray[np.uint8], other: NDArray[np.uint8], shown: NDArray[np.bool_], most_different: float
) -> NDArray[np.float32]:
    """Correlation of thumbnails row by row, ``[P, D]``, of the places that count; 0 where one of them differs."""
    shown = shown | (shown.mean(axis=1, keepdims=True) < LEAST_SHOWN)  # white paper around a drawing counts, too
    left, right = (_standardise(part, shown) for part in (one, other))
    differs = np.abs(left[0] - right[0]).max(axis=1, initial=0.0) > most_different
    likeness = (left[0] * right[0]).sum(axis=1) / shown.sum(axis=1)
    return np.where(differs | ~left[1] | ~right[1], np.float32(0.0), likeness)


def _equal_digests(digests: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Each repetition with the first of its kind."""
    first: dict[bytes, int] = {}
    for index, digest in enumerate(digests):
        if digest and first.setdefault(digest, index) != index:
            yield first[digest], index


def _like_pairs(coarse: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
    """Rows that correlate, ``[P, 2]`` at a time; time grows with N squared (a minute for 50,000)."""
    least = SAME_COARSE * coarse.shape[1]
    for start in range(0, len(coarse), ROWS_AT_ONCE):
        products = coarse[start : start + ROWS_AT_ONCE] @ coarse[start:].T
        pairs = np.argwhere(np.triu(products >= least, k=1)) + start
        for part in range(0, len(pairs), PAIRS_AT_ONCE):
            yield pairs[part : part + PAIRS_AT_ONCE]


def _standardise(
    values: NDArray[np.generic], shown: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Each row with mean 0 and standard deviation 1, 0 where not ``shown``; and which rows had any to speak of."""
    rows = values.astype(np.float32)
    weight = np.ones_like(rows) if shown is None else shown.astype(np.float32)
    count = weight.sum(axis=1, keepdims=True)
    rows = (rows - (rows * weight).sum(axis=1, keepdims=True) / count) * weight
    deviation = np.sqrt(np.square(rows).sum(axis=1, keepdims=True) / count)
    return rows / np.maximum(deviation, 1e-6), deviation[:, 0] >= PLAIN
