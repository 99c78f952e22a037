"""The few records that travel between the parts. Importing this never imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class HeadOutput(NamedTuple):
    """What a network predicts for every anchor.

    Attributes:
        box_codes: offsets to the anchors, ``[B, A, 4]``, coded as ``CoderConfig`` says.
        class_logits: one row of logits per anchor, background in column 0, ``[B, A, K]``.
    """

    box_codes: Tensor
    class_logits: Tensor


class RefineOutput(NamedTuple):
    """What a two-step network (RefineDet) predicts: the final heads, then the anchor refinement module's.

    Attributes:
        box_codes: offsets to the refined anchors, ``[B, A, 4]``.
        class_logits: ``[B, A, K]``, background in column 0.
        arm_box_codes: offsets from the anchors to the refined anchors, ``[B, A, 4]``.
        arm_logits: (not object, object), ``[B, A, 2]``.
    """

    box_codes: Tensor
    class_logits: Tensor
    arm_box_codes: Tensor
    arm_logits: Tensor


class Batch(NamedTuple):
    """A training batch on one device.

    Attributes:
        images: network input, ``[B, 3, H, W]``: RGB before normalisation, uint8 (float32 where colours are not
            limited); float32 after.
        boxes_xyxy: objects in pixels of the network input, zero-padded to the longest list of the batch, ``[B, M, 4]``.
        class_ids: 0..C-1, -1 where padded, ``[B, M]`` int64.
        valid: which rows are objects that the loss may use, ``[B, M]`` bool.
        indices: positions of the samples in their data set, ``[B]`` int64; names the images in error messages.
    """

    images: Tensor
    boxes_xyxy: Tensor
    class_ids: Tensor
    valid: Tensor
    indices: Tensor


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The classes of a data set or model: public index 0..C-1, name, and the id that its files use.

    Attributes:
        names: class names by index.
        ids: the data set's own ids by index (COCO category ids; equal to the index for VOC and YOLO).
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(len(self.names))))
        if len(self.ids) != len(self.names):
            raise ValueError(f"ClassMap has {len(self.names)} names but {len(self.ids)} ids")
        for what, values in (("names", self.names), ("ids", self.ids)):
            repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
            if repeated:
                raise ValueError(f"ClassMap {what} must be unique; repeated: {', '.join(repeated)}")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def index_of(self, name: str) -> int:
        """Index of a class name.

        Raises:
            KeyError: the name is not a class.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(f"no class '{name}'; the classes are {', '.join(self.names)}") from None


def _no_flags() -> np.ndarray:
    return np.zeros(0, dtype=bool)


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image of a data set. Pixels are not loaded.

    Attributes:
        image_path: the image file.
        image_size_hw: size after EXIF orientation is applied.
        boxes_xyxy: continuous corners in pixels of the upright image, ``[N, 4]`` float32.
        class_ids: 0..C-1, ``[N]`` int64.
        difficult: VOC's flag, ``[N]`` bool: not counted by the evaluator.
        iscrowd: COCO's flag, ``[N]`` bool: absorbs detections, never trains.
        areas: areas in square pixels for COCO's size classes (the annotation's, else the box's), ``[N]`` float32.
        image_id: the data set's id of the image (COCO id, else the file stem).
        source: file, and line where there is one, of the annotation, for messages.
        part_xyxy: the part of the upright image that this is, in whole pixels, where it is not all of it (a tile); size
            and boxes are the part's.
    """

    image_path: Path
    image_size_hw: tuple[int, int]
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    difficult: np.ndarray = field(default_factory=_no_flags)
    iscrowd: np.ndarray = field(default_factory=_no_flags)
    areas: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    image_id: int | str = ""
    source: str = ""
    part_xyxy: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        count = len(self.class_ids)
        if self.boxes_xyxy.shape != (count, 4):
            raise ValueError(f"{self.source}: boxes {self.boxes_xyxy.shape} do not fit {count} classes")
        for name in ("difficult", "iscrowd"):
            if len(getattr(self, name)) != count:
                object.__setattr__(self, name, np.zeros(count, dtype=bool))
        if len(self.areas) != count:
            sides = self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]
            object.__setattr__(self, "areas", sides.prod(axis=1).astype(np.float32))

    def __len__(self) -> int:
        return len(self.class_ids)
