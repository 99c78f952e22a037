"""A job in slices: which images belong together, and what their part of the results is called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

PART_SIZE = 512
"""Images of a part file. What a killed worker does again is at most this; 10^6 images are 2,000 files."""


class NamedImage(NamedTuple):
    """An image of a slice.

    Attributes:
        name: what its results are filed under.
        item: as `Predictor.stream` takes it.
    """

    name: str
    item: Any


class ImageRun(Protocol):
    """Images that are read one after the other: some files, some rows of a table."""

    def __len__(self) -> int: ...

    @property
    def identity(self) -> str:
        """Equal for the same images only."""

    def open(self) -> Iterator[NamedImage]:
        """The images; one that cannot be had is a `Failure`."""


@dataclass(frozen=True, slots=True)
class ListedFiles:
    """Image files by their paths, also inside archives.

    Attributes:
        names: the paths.
    """

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def identity(self) -> str:
        """The paths."""
        return "\0".join(self.names)

    def open(self) -> Iterator[NamedImage]:
        """Each as a path."""
        return (NamedImage(name, Path(name)) for name in self.names)


@dataclass(frozen=True, slots=True)
class Slice:
    """Images that one worker does in one go.

    Attributes:
        start: number of its first image in the job.
        images: what is in it.
    """

    start: int
    images: ImageRun

    @property
    def part(self) -> str:
        """Name of the file of its results: the same for the same images at the same place, whoever writes it."""
        digest = hashlib.sha256(self.images.identity.encode("utf-8", "surrogateescape")).hexdigest()
        return f"part-{self.start:010d}-{digest[:12]}.parquet"


def divide(runs: Sequence[ImageRun]) -> list[Slice]:
    """Slices of these images, one after the other."""
    slices, start = [], 0
    for run in runs:
        slices.append(Slice(start, run))
        start += len(run)
    return slices


def file_runs(names: Sequence[str], size: int, batch_size: int = 1) -> list[ImageRun]:
    """Files in runs of a size, made up to whole batches: so every batch is the one of a run without slices."""
    size = -(-size // batch_size) * batch_size
    return [ListedFiles(tuple(names[at : at + size])) for at in range(0, len(names), size)]


def digest_of(slices: Sequence[Slice]) -> str:
    """What tells whether a job has the same images in the same slices as another."""
    return hashlib.sha256("\n".join(own.part for own in slices).encode()).hexdigest()[:16]
