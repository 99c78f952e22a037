"""Several looks at one picture: tiles, so that small objects become large, and mirrored ones; merged into one result.

A `View` is a part of a picture that the network sees as if it were a picture of its own. Tiles as in Akyon et al.,
"Slicing Aided Hyper Inference", ICIP 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import ConfigError
from singleshot.prediction.detections import Detections

Merge = Literal["nms", "ios", "union"]
MERGES: tuple[Merge, ...] = ("nms", "ios", "union")

OVERLAP = 0.2
MERGE_AT = 0.5

_MOST_VIEWS = 4096
"""More tiles of one picture are a mistyped size."""

_PAIRS = 2**22
"""Pairs of boxes that are compared at once: bounds the memory."""

_ZOOM = 2 / 3
"""Side of the parts that test-time augmentation enlarges, of the picture's."""


class View(NamedTuple):
    """A part of a picture.

    Attributes:
        x0, y0, x1, y1: its corners in whole pixels.
        mirrored: whether the network sees it with left and right exchanged.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    mirrored: bool = False

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part, ``[h, w, 3]``; not copied."""
        part = pixels[self.y0 : self.y1, self.x0 : self.x1]
        return np.ascontiguousarray(part[:, ::-1]) if self.mirrored else part

    def place(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes in fractions of the view as boxes in pixels of the picture, ``[N, 4]``."""
        if self.mirrored:
            boxes_xyxy = np.stack((1 - boxes_xyxy[:, 2], boxes_xyxy[:, 1], 1 - boxes_xyxy[:, 0], boxes_xyxy[:, 3]), 1)
        sides = np.array((self.x1 - self.x0, self.y1 - self.y0) * 2, dtype=np.float32)
        return boxes_xyxy * sides + np.array((self.x0, self.y0) * 2, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """How a picture is looked at, and how what was found is merged.

    Attributes:
        tile_hw: (height, width) of tiles in pixels; ``None`` for no tiles.
        overlap: of neighbouring tiles, as a share of their side, 0 up to below 1.
        whole: whether the whole picture is looked at, too, for objects larger than a tile.
        flip: every view is also seen mirrored.
        scales: the picture is also seen in four overlapping parts, enlarged by a half.
        merge: what becomes of boxes of one class that overlap: ``nms`` drops the weaker where IoU exceeds ``merge_at``;
            ``ios`` drops it where its overlap, over the smaller of both areas, does (objects that a seam cuts);
            ``union`` as ``ios``, and the stronger box grows to hold the weaker.
        merge_at: that overlap.
        agnostic: whether boxes of different classes are merged, too.

    Raises:
        ConfigError: a value that makes no sense.
    """

    tile_hw: tuple[int, int] | None = None
    overlap: float = OVERLAP
    whole: bool = True
    flip: bool = False
    scales: bool = False
    merge: Merge = "nms"
    merge_at: float = MERGE_AT
    agnostic: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"`overlap={self.overlap:g}`: of a tile's side, 0 up to below 1")
        if not 0 < self.merge_at <= 1:
            raise ConfigError(f"`merge_at={self.merge_at:g}`: must lie in 0..1")
        if self.merge not in MERGES:
            raise ConfigError(f"`merge='{self.merge}'`: choose from {', '.join(MERGES)}")
        if self.tile_hw is not None and min(self.tile_hw) < 1:
            raise ConfigError(f"`tile={self.tile_hw}`: sides in pixels, at least 1")

    @property
    def is_plain(self) -> bool:
        """Whether a picture is looked at once, as a whole."""
        return self.tile_hw is None and not self.flip and not self.scales

    def lines(self) -> list[str]:
        """How a picture is looked at, for a person; nothing where it is looked at once."""
        looks = []
        if self.tile_hw is not None:
            looks.append(
                f"in tiles of {self.tile_hw[0]} x {self.tile_hw[1]} pixels with an overlap of {self.overlap:g}"
            )
        looks += ["mirrored"] * self.flip + ["in enlarged parts"] * self.scales
        return [f"images are also looked at {', '.join(looks)}, and merged by {self.merge}"] if looks else []

    def views(self, size_hw: tuple[int, int]) -> list[View]:
        """The views of a picture of this size.

        Raises:
            ConfigError: there would be thousands.
        """
        height, width = size_hw
        parts = [View(0, 0, width, height)] if self.whole or self.tile_hw is None else []
        if self.tile_hw is not None:
            parts += tiles(size_hw, self.tile_hw, self.overlap)
        if self.scales:
            part_hw = (max(1, round(_ZOOM * height)), max(1, round(_ZOOM * width)))
            parts += tiles(size_hw, part_hw, 0.0)
        parts = list(dict.fromkeys(parts))
        if self.flip:
            parts += [view._replace(mirrored=True) for view in parts]
        return parts


def tiles(size_hw: tuple[int, int], tile_hw: tuple[int, int], overlap: float) -> list[View]:
    """Tiles that cover a picture, row by row; the last of a row or column is moved back to end with the picture.

    Raises:
        ConfigError: there would be thousands.
    """
    height, width = size_hw
    rows, columns = (_starts(*sides, overlap) for sides in zip(size_hw, tile_hw, strict=True))
    if len(rows) * len(columns) > _MOST_VIEWS:
        raise ConfigError(
            f"tiles of {tile_hw[0]} x {tile_hw[1]} pixels make {len(rows) * len(columns):,} of a picture of "
            f"{height} x {width} (height x width): choose larger ones by `tile`"
        )
    return [View(x, y, min(x + tile_hw[1], width), min(y + tile_hw[0], height)) for y in rows for x in columns]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along one side."""
    if tile >= length:
        return [0]
    step = max(1, round(tile * (1 - overlap)))
    return [*range(0, length - tile, step), length - tile]


def merge(found: Detections, plan: ViewPlan, most: int | None = None) -> Detections:
    """One result of what all views found: of boxes of one object the best, best first.

    Args:
        found: of all views, in pixels of the picture.
        plan: how.
        most: detections that are kept.
    """
    found = found[np.argsort(-found.scores, kind="stable")]
    if len(found) > 1:
        keep, keeper = suppress(found.boxes_xyxy, None if plan.agnostic else found.class_ids, plan)
        if plan.merge == "union":
            found = _grown(found, keeper)
        found = found[keep]
    return found[:most]


def suppress(
    boxes_xyxy: NDArray[np.float32], class_ids: NDArray[np.int64] | None, plan: ViewPlan
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Greedy suppression, exact and without a loop over boxes.

    A box stays if no better box that stays covers it. Asking that of all at once, again and again, settles after as
    many rounds as the longest chain of boxes is long, which is a few.

    Args:
        boxes_xyxy: best first, ``[N, 4]``.
        class_ids: ``[N]``; ``None`` where classes do not matter.
        plan: its ``merge`` and ``merge_at``.

    Returns:
        (whether each box stays ``[N]``, the box that it is part of ``[N]``: itself where it stays).
    """
    better, worse = _covering(boxes_xyxy, plan)
    if class_ids is not None:
        same = class_ids[better] == class_ids[worse]
        better, worse = better[same], worse[same]
    keep = np.ones(len(boxes_xyxy), dtype=bool)
    while True:
        settled = np.ones_like(keep)
        settled[worse[keep[better]]] = False
        if (settled == keep).all():
            break
        keep = settled
    keeper = np.arange(len(keep))
    strong = keep[better]
    keeper[worse[strong][::-1]] = better[strong][::-1]  # pairs are sorted: the best one is written last
    return keep, keeper


def _covering(boxes: NDArray[np.float32], plan: ViewPlan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a box and a worse one that it covers, sorted by the better; boxes are compared a block at a time."""
    better, worse = [], []
    step = max(1, _PAIRS // len(boxes))
    for begin in range(0, len(boxes), step):
        block = boxes[begin : begin + step]
        rows, columns = np.nonzero(_overlap(block, boxes[begin:], smaller=plan.merge != "nms") > plan.merge_at)
        later = columns > rows
        better.append(rows[later] + begin)
        worse.append(columns[later] + begin)
    return np.concatenate(better), np.concatenate(worse)


def _grown(found: Detections, keeper: NDArray[np.int64]) -> Detections:
    """Boxes that stay hold those that are part of them."""
    boxes = found.boxes_xyxy.copy()
    np.minimum.at(boxes[:, :2], keeper, found.boxes_xyxy[:, :2])
    np.maximum.at(boxes[:, 2:], keeper, found.boxes_xyxy[:, 2:])
    return replace(found, boxes_xyxy=boxes)


def _overlap(a: NDArray[np.float32], b: NDArray[np.float32], *, smaller: bool) -> NDArray[np.float32]:
    """Shared area over the union, or over the smaller of both areas, ``[N, M]``."""
    ax0, ay0, ax1, ay1 = a.T[..., None]
    bx0, by0, bx1, by1 = b.T
    shared = (np.minimum(ax1, bx1) - np.maximum(ax0, bx0)).clip(0)
    shared *= (np.minimum(ay1, by1) - np.maximum(ay0, by0)).clip(0)
    area_a, area_b = (ax1 - ax0).clip(0) * (ay1 - ay0).clip(0), (bx1 - bx0).clip(0) * (by1 - by0).clip(0)
    over = np.minimum(area_a, area_b) if smaller else area_a + area_b - shared
    return np.asarray(np.divide(shared, over, out=np.zeros_like(shared), where=over > 0))
