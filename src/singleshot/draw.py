"""Draw boxes with labels that stay readable on any picture, at any size."""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from singleshot.detections import Detections

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colour = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN_TURN = 0.6180339887  # neighbouring class ids get hues far apart, however many classes there are


def class_colour(class_id: int) -> Colour:
    """RGB colour of a class: the same in every picture of every run."""
    hue = (0.08 + class_id * _GOLDEN_TURN) % 1.0
    lightness = (0.50, 0.62, 0.42)[class_id % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_detections(
    image_rgb: NDArray[np.uint8], detections: Detections, *, labels: bool = True, line_width: int | None = None
) -> NDArray[np.uint8]:
    """Boxes and labels on a copy of an image, the surest on top.

    Args:
        image_rgb: ``[H, W, 3]`` uint8.
        detections: in pixels of this image.
        labels: whether boxes have names and scores.
        line_width: of boxes, in pixels; ``None`` follows the picture's size.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    picture = np.ascontiguousarray(image_rgb).copy()
    for index in np.argsort(detections.scores, kind="stable"):
        class_id = int(detections.class_ids[index])
        corners = detections.boxes_xyxy[index]
        label = f"{detections.class_names[class_id]} {detections.scores[index]:.2f}"
        draw_box(picture, corners, class_colour(class_id), line_width=line_width)
        if labels:
            draw_label(picture, corners, label, class_colour(class_id))
    return picture


def draw_box(
    picture: NDArray[np.uint8],
    corners: NDArray[np.floating],
    colour: Colour,
    *,
    dashed: bool = False,
    line_width: int | None = None,
) -> None:
    """Draw a frame into ``picture``; its width is ``line_width`` pixels, or follows the picture's size."""
    height, width = picture.shape[:2]
    thickness = line_width or math.ceil(2 * _unit(picture))
    # The last pixel of a box that ends at x is x - 1; a far outside corner would overflow OpenCV's integers.
    x1, y1, x2, y2 = (round(float(value)) for value in corners.clip(-16, max(height, width) + 16))
    x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)
    if not dashed:
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, thickness)
        return
    dash = 5 * thickness
    for start in range(x1, x2 + 1, 2 * dash):
        for y in (y1, y2):
            cv2.line(picture, (start, y), (min(start + dash, x2), y), colour, thickness)
    for start in range(y1, y2 + 1, 2 * dash):
        for x in (x1, x2):
            cv2.line(picture, (x, start), (x, min(start + dash, y2)), colour, thickness)


def draw_label(picture: NDArray[np.uint8], corners: NDArray[np.floating], label: str, colour: Colour) -> None:
    """Text on a plate of the box's colour, above the box where there is room, inside it otherwise."""
    unit = _unit(picture)
    height, width = picture.shape[:2]
    scale, thickness, pad = max(0.4, 0.5 * unit), max(1, round(1.1 * unit)), max(2, round(3 * unit))
    (text_width, text_height), baseline = cv2.getTextSize(label, _FONT, scale, thickness)
    plate_width, plate_height = text_width + 2 * pad, text_height + baseline + pad
    x = int(np.clip(round(float(corners[0])), 0, max(0, width - plate_width)))
    y = round(float(corners[1].clip(-16, height + 16))) - plate_height
    y = y if y >= 0 else int(np.clip(round(float(corners[1])), 0, max(0, height - plate_height)))
    cv2.rectangle(picture, (x, y), (x + plate_width - 1, y + plate_height - 1), colour, cv2.FILLED)
    at = (x + pad, y + plate_height - baseline - pad // 2)
    cv2.putText(picture, label, at, _FONT, scale, _ink(colour), thickness, cv2.LINE_AA)


def _unit(picture: NDArray[np.uint8]) -> float:
    """Line widths and letters are made for 640 pixels."""
    return float(max(picture.shape[:2])) / 640


def _ink(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour (luma of ITU-R BT.601)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
