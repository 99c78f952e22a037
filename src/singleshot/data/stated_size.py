"""Boxes that were drawn on an unturned or scaled copy of their image, brought to the image itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.data.bad_records import Action, Problem
from singleshot.data.columns import Columns, Mask
from singleshot.data.headers import ImageSizes

# A box may stick out by this much through rounding; it is clipped and only noted.
ROUNDING_PX = 1.0
SCALE_TOLERANCE = 0.01


def check_stated_sizes(columns: Columns, sizes: ImageSizes, usable: Mask) -> None:
    """Images whose annotation states another size than the file has: turn, scale, keep or skip their boxes."""
    records = columns.records
    declared_hw = records.images.declared_hw
    odd = usable & (declared_hw != sizes.upright_hw).any(axis=1)
    if not records.states_sizes:
        odd &= declared_hw[:, 0] > 0
    if not odd.any():
        return
    order = np.argsort(columns.owner, kind="stable")
    bounds = np.searchsorted(columns.owner[order], np.arange(len(records.images) + 1))
    for index in np.flatnonzero(odd).tolist():
        image, rows = records.images[index], order[bounds[index] : bounds[index + 1]]
        height, width = sizes.stored_hw[index].tolist()
        stored = StoredSize((height, width), int(sizes.orientations[index]))
        kind, action, text = _settle(columns, rows, image.declared_hw, stored)
        columns.problems.append(Problem(image.file, image.line, kind, action, f"{image.path.name}: {text}"))
        if action == "skipped":
            usable[index] = False
            columns.keep[rows] = False


class StoredSize(NamedTuple):
    """(height, width) of an image as it is stored, and its EXIF orientation."""

    size_hw: tuple[int, int]
    orientation: int


def _settle(
    columns: Columns, rows: NDArray[np.int64], declared_hw: tuple[int, int] | None, stored: StoredSize
) -> tuple[str, Action, str]:
    """Bring the boxes of one image from the size that its annotation states to the real one; say how."""
    height, width = stored.size_hw[::-1] if stored.orientation >= 5 else stored.size_hw
    if declared_hw is None:
        return "no-size", "noted", f"the annotation states no size; the image is {width} x {height}"
    boxes = columns.boxes[rows]
    stated = f"the annotation is for {declared_hw[1]} x {declared_hw[0]}, the image is {width} x {height}"
    scale = np.array([width / declared_hw[1], height / declared_hw[0]])
    if stored.orientation >= 5 and declared_hw == stored.size_hw:
        columns.boxes[rows] = turn_boxes(boxes, stored.size_hw, stored.orientation)
        return "exif-turned", "repaired", f"boxes were drawn on the unturned image; turned (EXIF {stored.orientation})"
    if declared_hw == (width, height) and _fits(boxes, width, height):
        return "size-swapped", "noted", f"{stated}: width and height are swapped"
    if abs(scale[0] / scale[1] - 1) <= SCALE_TOLERANCE:
        columns.boxes[rows] = boxes * np.tile(scale, 2)
        columns.areas[rows] *= scale.prod()
        return "size-scaled", "repaired", f"{stated}: boxes scaled"
    return "size-mismatch", "skipped", f"{stated}: the labels are of another picture"


def _fits(boxes: NDArray[np.float64], width: int, height: int) -> bool:
    limits = np.array([width, height]) + ROUNDING_PX
    return bool((boxes[:, 2:] <= limits).all())


def turn_boxes(boxes_xyxy: NDArray[np.float64], stored_hw: tuple[int, int], orientation: int) -> NDArray[np.float64]:
    """Boxes of an image as stored, on the upright image.

    Args:
        boxes_xyxy: corners in pixels of the stored image, ``[N, 4]``.
        stored_hw: size before the orientation is applied.
        orientation: EXIF orientation, 1 to 8.
    """
    height, width = stored_hw
    x0, y0, x1, y1 = boxes_xyxy.T
    if orientation in (2, 3, 7, 8):  # the stored x axis runs backwards
        x0, x1 = width - x1, width - x0
    if orientation in (3, 4, 6, 7):  # the stored y axis runs backwards
        y0, y1 = height - y1, height - y0
    turned = (y0, x0, y1, x1) if orientation >= 5 else (x0, y0, x1, y1)
    return np.stack(turned, axis=1)
