"""Objects and detections of a whole data set as flat arrays: one row per box, no list per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from singleshot.core.structures import Sample


def _empty(*shape: int, dtype: type = float) -> np.ndarray:
    return np.zeros(shape, dtype=dtype)


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """All labelled objects of a data set.

    Attributes:
        image_index: image of each object, 0..image_count-1, ``[N]`` int64.
        class_ids: 0..C-1, ``[N]`` int64.
        boxes_xyxy: pixels, ``[N, 4]``, any float type.
        image_count: images, also those without objects.
        difficult: VOC's flag, ``[N]`` bool: never missed, and detections of it are neither right nor wrong.
        iscrowd: COCO's flag, ``[N]`` bool: the same, for a region of many objects.
        areas: square pixels for COCO's size classes, ``[N]``; those of the boxes when not given.
    """

    image_index: np.ndarray
    class_ids: np.ndarray
    boxes_xyxy: np.ndarray
    image_count: int
    difficult: np.ndarray = field(default_factory=lambda: _empty(0, dtype=bool))
    iscrowd: np.ndarray = field(default_factory=lambda: _empty(0, dtype=bool))
    areas: np.ndarray = field(default_factory=lambda: _empty(0))

    def __post_init__(self) -> None:
        count = len(self.class_ids)
        for name in ("difficult", "iscrowd"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.zeros(count, dtype=bool))
        if not len(self.areas):
            sides = np.asarray(self.boxes_xyxy, dtype=np.float64).reshape(-1, 4)
            object.__setattr__(self, "areas", (sides[:, 2:] - sides[:, :2]).prod(axis=1))
        _check(self, count, self.image_count)

    def __len__(self) -> int:
        return len(self.class_ids)

    @property
    def ignored(self) -> np.ndarray:
        """Objects that nobody has to find, ``[N]`` bool."""
        return np.asarray(self.difficult | self.iscrowd)

    def relabel(self, new_ids: np.ndarray) -> GroundTruth:
        """The same objects with other class ids; ``new_ids[old]`` below 0 drops the class. Images stay."""
        return self.with_classes(new_ids[self.class_ids])

    def with_classes(self, ids: np.ndarray) -> GroundTruth:
        """The same objects with these class ids, ``[N]``; one below 0 drops the object. Images stay."""
        keep = ids >= 0
        return GroundTruth(
            image_index=self.image_index[keep],
            class_ids=ids[keep],
            boxes_xyxy=self.boxes_xyxy[keep],
            image_count=self.image_count,
            difficult=self.difficult[keep],
            iscrowd=self.iscrowd[keep],
            areas=self.areas[keep],
        )

    @classmethod
    def from_samples(cls, samples: Sequence[Sample]) -> GroundTruth:
        """Flatten the samples of a data set; the index of an image is its position."""
        counts = [len(sample) for sample in samples]

        def join(name: str, empty: np.ndarray) -> np.ndarray:
            return np.concatenate([getattr(sample, name) for sample in samples] or [empty])

        return cls(
            image_index=np.repeat(np.arange(len(samples)), counts),
            class_ids=join("class_ids", _empty(0, dtype=int)),
            boxes_xyxy=join("boxes_xyxy", _empty(0, 4)),
            image_count=len(samples),
            difficult=join("difficult", _empty(0, dtype=bool)),
            iscrowd=join("iscrowd", _empty(0, dtype=bool)),
            areas=join("areas", _empty(0)),
        )


@dataclass(frozen=True, slots=True)
class DetectionTable:
    """All detections of a data set.

    Attributes:
        image_index: image of each detection, ``[D]`` int64.
        class_ids: 0..C-1, ``[D]`` int64.
        boxes_xyxy: pixels of the original image, ``[D, 4]``, any float type.
        scores: larger is surer, ``[D]``; equal scores rank in the order of the rows.
    """

    image_index: np.ndarray
    class_ids: np.ndarray
    boxes_xyxy: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        _check(self, len(self.class_ids))
        if not np.isfinite(self.scores).all():
            raise ValueError("detections have scores that are NaN or infinite; look at the network's output")

    def __len__(self) -> int:
        return len(self.class_ids)

    def take(self, rows: np.ndarray) -> DetectionTable:
        """Some rows, by index or mask."""
        return DetectionTable(self.image_index[rows], self.class_ids[rows], self.boxes_xyxy[rows], self.scores[rows])

    def relabel(self, new_ids: np.ndarray) -> DetectionTable:
        """The same detections with other class ids; ``new_ids[old]`` below 0 drops the class."""
        ids = new_ids[self.class_ids]
        keep = ids >= 0
        return DetectionTable(self.image_index[keep], ids[keep], self.boxes_xyxy[keep], self.scores[keep])

    @classmethod
    def concatenate(cls, tables: Sequence[DetectionTable]) -> DetectionTable:
        """Tables one below the other; no table gives an empty one."""
        blank = cls(_empty(0, dtype=int), _empty(0, dtype=int), _empty(0, 4), _empty(0))
        parts = [table for table in tables if len(table)] or [blank]
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))


def _check(table: GroundTruth | DetectionTable, count: int, image_count: int | None = None) -> None:
    if table.boxes_xyxy.shape != (count, 4):
        raise ValueError(f"{type(table).__name__}: boxes_xyxy {table.boxes_xyxy.shape} do not fit {count} classes")
    for column in fields(table):
        values = getattr(table, column.name)
        if isinstance(values, np.ndarray) and len(values) != count:
            raise ValueError(f"{type(table).__name__}: {column.name} has {len(values)} rows, class_ids has {count}")
    if count and (table.image_index.min() < 0 or table.class_ids.min() < 0):
        raise ValueError(f"{type(table).__name__}: image_index and class_ids must not be negative")
    if count and image_count is not None and table.image_index.max() >= image_count:
        raise ValueError(
            f"{type(table).__name__}: image_index reaches {table.image_index.max()}, past {image_count} images"
        )
