"""The images of a data set and their objects in arrays; a `Sample` is made when it is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from singleshot.core.structures import Sample
from singleshot.data.column_types import TextColumn
from singleshot.data.records import ImageTable


class ObjectArrays(NamedTuple):
    """Objects of many images, row by row as in `Sample`."""

    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    iscrowd: NDArray[np.bool_]
    areas: NDArray[np.float32]

    def take(self, rows: slice | NDArray[np.int64]) -> ObjectArrays:
        """Some rows."""
        boxes, class_ids, difficult, iscrowd, areas = self
        return ObjectArrays(boxes[rows], class_ids[rows], difficult[rows], iscrowd[rows], areas[rows])


@dataclass(frozen=True, eq=False)
class SampleTable(Sequence[Sample]):
    """Samples that share their columns, so that parts of a data set cost their row numbers alone.

    Attributes:
        images: paths, ids and sources of all images that were read.
        sizes_hw: their sizes, upright, ``[N, 2]``.
        ids: their ids where those of ``images`` are not unique.
        objects: those of all images, sorted by image.
        bounds: where the objects of each image begin and end, ``[N + 1]``.
        rows: the images that these samples are, ``[len(self)]``.
    """

    images: ImageTable
    sizes_hw: NDArray[np.int32]
    ids: TextColumn | None
    objects: ObjectArrays
    bounds: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> SampleTable: ...
    def __getitem__(self, index: int | slice) -> Sample | SampleTable:
        if isinstance(index, slice):
            return dataclasses.replace(self, rows=self.rows[index])
        row = int(self.rows[index])
        objects = self.objects.take(slice(self.bounds[row], self.bounds[row + 1]))
        height, width = self.sizes_hw[row].tolist()
        image_id = self.images.image_id(row) if self.ids is None else self.ids[row]
        return Sample(
            Path(self.images.paths[row]), (height, width), *objects, image_id=image_id, source=self.images.where(row)
        )

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> SampleTable:
        """The samples at some places, in their order."""
        return dataclasses.replace(self, rows=self.rows[np.asarray(indices, np.int64)])


def take_samples(samples: Sequence[Sample], indices: Sequence[int]) -> Sequence[Sample]:
    """The samples at some places, in their order."""
    return samples.take(indices) if isinstance(samples, SampleTable) else tuple(samples[index] for index in indices)


def count_objects(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """Objects of each sample, ``[N]``."""
    if isinstance(samples, SampleTable):
        return np.diff(samples.bounds)[samples.rows]
    return np.array([len(sample) for sample in samples], np.int64)


def all_objects(samples: Sequence[Sample]) -> tuple[NDArray[np.int64], ObjectArrays]:
    """The position of each object's sample, ``[M]``, and the objects."""
    counts = count_objects(samples)
    owner = np.repeat(np.arange(len(counts)), counts)
    if isinstance(samples, SampleTable):
        before = np.cumsum(counts) - counts
        return owner, samples.objects.take(np.arange(len(owner)) + (samples.bounds[samples.rows] - before)[owner])
    nothing = ObjectArrays(*(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), *_flags(), np.zeros(0, np.float32)))
    columns = (
        np.concatenate([empty, *(getattr(s, name) for s in samples)]) for name, empty in nothing._asdict().items()
    )
    return owner, ObjectArrays(*columns)


def _flags() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return np.zeros(0, bool), np.zeros(0, bool)


def image_paths(samples: Sequence[Sample]) -> Iterator[str]:
    """The path of each sample's image."""
    if isinstance(samples, SampleTable):
        return map(samples.images.paths.__getitem__, samples.rows.tolist())
    return (str(sample.image_path) for sample in samples)


def image_sizes(samples: Sequence[Sample]) -> NDArray[np.int32]:
    """(height, width) of each sample, ``[N, 2]``."""
    if isinstance(samples, SampleTable):
        return samples.sizes_hw[samples.rows]
    return np.array([sample.image_size_hw for sample in samples], np.int32).reshape(-1, 2)
