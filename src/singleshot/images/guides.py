"""Draw what a person put over a picture: zones, and the lines where objects are counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.images.lettering import text_plate

_INK, _EDGE = (255, 255, 255), (0, 0, 0)
_ARROW = 14
"""Length of a line's arrow in a picture of 640 pixels."""


class Guide(NamedTuple):
    """A polygon or a line.

    Attributes:
        points_xy: its corners, or its start and end, in pixels of the picture.
        text: what stands at the first of them.
        closed: whether it is a polygon. A line has an arrow to its right, looking from start to end.
    """

    points_xy: tuple[tuple[float, float], ...]
    text: str = ""
    closed: bool = False


def draw_guides(
    picture: NDArray[np.uint8], guides: Sequence[Guide], *, labels: bool = True, line_width: int | None = None
) -> None:
    """Draw guides into a picture, white with a black edge.

    Args:
        picture: ``[H, W, 3]`` uint8, contiguous; changed in place.
        guides: what is drawn.
        labels: write their texts.
        line_width: in pixels; by default it follows the picture's size.
    """
    unit = max(picture.shape[:2]) / 640
    width = line_width or math.ceil(2 * unit)
    far = max(picture.shape[:2]) * 8.0  # what lies further away would overflow OpenCV's integers
    for guide in guides:
        points = np.array(guide.points_xy).clip(-far, far)
        corners = points.round().astype(np.int32)
        for colour, thickness in ((_EDGE, width + 2), (_INK, width)):
            cv2.polylines(picture, [corners], guide.closed, colour, thickness, cv2.LINE_AA)
            if not guide.closed:
                _draw_arrow(picture, points, _ARROW * unit, colour, thickness)
    for guide in guides if labels else ():
        _write(picture, guide, unit)


def _draw_arrow(
    picture: NDArray[np.uint8], points: NDArray[np.float64], length: float, colour: tuple[int, int, int], width: int
) -> None:
    """From the middle of a line to its right; y points down."""
    along = points[1] - points[0]
    right = np.array((-along[1], along[0])) / max(float(np.hypot(*along)), 1e-9)
    middle = points.mean(axis=0)
    start, end = ((round(float(x)), round(float(y))) for x, y in (middle, middle + length * right))
    cv2.arrowedLine(picture, start, end, colour, width, cv2.LINE_AA, tipLength=0.5)


def _write(picture: NDArray[np.uint8], guide: Guide, unit: float) -> None:
    """The text of a guide at its first point, moved into the picture; none where it does not fit."""
    plate = text_plate(guide.text, max(0.4, 0.5 * unit), max(2, round(3 * unit)), _INK, _EDGE)
    room = np.array(picture.shape[:2]) - plate.shape[:2]
    if not guide.text or (room < 0).any():
        return
    x, y = guide.points_xy[0]
    top, left = round(float(np.clip(y, 0, room[0]))), round(float(np.clip(x, 0, room[1])))
    picture[top : top + plate.shape[0], left : left + plate.shape[1]] = plate
