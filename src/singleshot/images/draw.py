"""Draw boxes with labels that stay readable on any picture, at any size."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.images.guides import Guide, draw_guides
from singleshot.images.lettering import Colour, text_plate

_GOLDEN_TURN = 0.6180339887  # neighbouring class ids get hues far apart, however many classes there are


def class_colour(class_id: int) -> Colour:
    """RGB colour of a class: the same in every picture of every run."""
    hue = (0.08 + class_id * _GOLDEN_TURN) % 1.0
    lightness = (0.50, 0.62, 0.42)[class_id % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


class LabelledBoxes(Protocol):
    """What can be drawn: boxes, each with a class and a score."""

    @property
    def boxes_xyxy(self) -> NDArray[np.floating]:
        """``[N, 4]``, pixels of the picture."""

    @property
    def scores(self) -> NDArray[np.floating]:
        """``[N]``, 0 to 1."""

    @property
    def class_ids(self) -> NDArray[np.integer]:
        """``[N]``, indices into ``class_names``."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of all classes."""


# Letters and lines that can still be made out, and how much of an object they may hide.
_MIN_SCALE = 0.35
_MIN_OBJECT = 8
_LABEL_SHARE = 0.5
_LINE_SHARE = 0.1


def draw_detections(
    image_rgb: NDArray[np.uint8],
    detections: LabelledBoxes,
    *,
    labels: bool = True,
    line_width: int | None = None,
    guides: Sequence[Guide] = (),
) -> NDArray[np.uint8]:
    """Boxes and labels on a copy of an image, the surest on top; tracked objects have their id in place of the score.

    Args:
        image_rgb: ``[H, W, 3]`` uint8.
        detections: in pixels of this image.
        labels: write class and score at each box.
        line_width: of the boxes, pixels; by default it follows the picture's size, and is thin on small objects.
        guides: zones and lines, below the boxes.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    picture = np.ascontiguousarray(image_rgb).copy()
    draw_guides(picture, guides, labels=labels, line_width=line_width)
    order = np.argsort(detections.scores, kind="stable")
    for index in order:
        colour = class_colour(int(detections.class_ids[index]))
        draw_box(picture, detections.boxes_xyxy[index], colour, line_width=line_width)
    for label in reversed(_place_labels(picture, detections, order[::-1]) if labels else []):
        label.paint(picture)
    return picture


class _Label(NamedTuple):
    """A plate with text, ``[h, w, 3]``, and the pixel of its upper left corner."""

    x: int
    y: int
    plate: NDArray[np.uint8]

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """As xyxy."""
        return self.x, self.y, self.x + self.plate.shape[1], self.y + self.plate.shape[0]

    def paint(self, picture: NDArray[np.uint8]) -> None:
        """Put it into a picture."""
        x1, y1, x2, y2 = self.corners
        picture[y1:y2, x1:x2] = self.plate


def _place_labels(picture: NDArray[np.uint8], detections: LabelledBoxes, order: NDArray[np.integer]) -> list[_Label]:
    """The surest first: those of small objects yield to other objects and to labels that are there."""
    boxes = np.asarray(detections.boxes_xyxy, dtype=np.float32)
    labels: list[_Label] = []
    corners = np.empty_like(boxes)
    ids = getattr(detections, "track_ids", None)
    for index in order:
        class_id = int(detections.class_ids[index])
        name = detections.class_names[class_id]
        track_id = 0 if ids is None else int(ids[index])
        text = f"{name} #{track_id}" if track_id > 0 else f"{name} {detections.scores[index]:.2f}"
        others = np.delete(boxes, index, axis=0)
        label = _place(picture, boxes[index], text, class_colour(class_id), others, corners[: len(labels)])
        if label is not None:
            corners[len(labels)] = label.corners
            labels.append(label)
    return labels


def draw_box(
    picture: NDArray[np.uint8],
    corners: NDArray[np.floating],
    colour: Colour,
    *,
    dashed: bool = False,
    line_width: int | None = None,
) -> None:
    """Draw a frame into ``picture``; by default its width follows the picture's size, and is thin on small objects."""
    height, width = picture.shape[:2]
    thickness = line_width or _line_width(picture, corners)
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
    """Text on a plate of the box's colour: above the box where there is room, else inside a large one, else below.

    Letters shrink with the object; where even the smallest would leave the picture, there is no label.
    """
    none = np.zeros((0, 4), np.float32)
    placed = _place(picture, corners, label, colour, none, none)
    if placed is not None:
        placed.paint(picture)


def _place(
    picture: NDArray[np.uint8],
    corners: NDArray[np.floating],
    text: str,
    colour: Colour,
    others: NDArray[np.float32],
    placed: NDArray[np.float32],
) -> _Label | None:
    """Find room for a label; one that is larger than its object hides no other object and no label.

    Args:
        picture: ``[H, W, 3]``.
        corners: of the object, xyxy.
        text, colour: of the label.
        others: boxes of the other objects, ``[N, 4]``.
        placed: labels that are there, ``[N, 4]``.
    """
    far = max(picture.shape[:2]) + 16.0
    x1, y1, x2, y2 = (min(max(value, -16.0), far) for value in corners.tolist())
    longer = max(x2 - x1, y2 - y1)
    plate = _plate(picture, longer, text, colour)
    height, width = plate.shape[:2]
    if longer < _MIN_OBJECT or width > picture.shape[1]:
        return None
    x = int(np.clip(round(x1), 0, picture.shape[1] - width))
    large = (y2 - y1) * _LABEL_SHARE >= height and x2 - x1 >= width
    yields = width * height > (x2 - x1) * (y2 - y1)
    for y in (round(y1) - height, round(max(y1, 0.0)) if large else round(y2)):
        label = _Label(x, y, plate)
        if not 0 <= y <= picture.shape[0] - height:
            continue
        if not yields or not (_hides(label, others, _LABEL_SHARE) or _hides(label, placed, 0.0)):
            return label
    return None


def _hides(label: _Label, boxes: NDArray[np.float32], share: float) -> bool:
    """Whether a label covers more than a share of any of some boxes, ``[N, 4]``."""
    corners = np.array(label.corners, dtype=np.float32)
    common = np.minimum(boxes[:, 2:], corners[2:]) - np.maximum(boxes[:, :2], corners[:2])
    area = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
    return bool((common.clip(min=0).prod(axis=1) > share * area).any())


def _plate(picture: NDArray[np.uint8], longer: float, label: str, colour: Colour) -> NDArray[np.uint8]:
    """The label in letters that suit the picture, and are smaller on an object that they would hide."""
    unit = _unit(picture)
    scale, pad, ink = max(0.4, 0.5 * unit), max(2, round(3 * unit)), _ink(colour)
    plate = text_plate(label, scale, pad, ink, colour)
    share = longer * _LABEL_SHARE / plate.shape[0]
    if share >= 1:
        return plate
    return text_plate(label, max(_MIN_SCALE, scale * share), max(1, int(pad * share)), ink, colour)


def _line_width(picture: NDArray[np.uint8], corners: NDArray[np.floating]) -> int:
    side = float(min(corners[2] - corners[0], corners[3] - corners[1]))
    usual = math.ceil(2 * _unit(picture))
    return max(1, min(usual, int(side * _LINE_SHARE))) if side > 0 else usual


def _unit(picture: NDArray[np.uint8]) -> float:
    """Line widths and letters are made for 640 pixels."""
    return float(max(picture.shape[:2])) / 640


def _ink(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour (luma of ITU-R BT.601)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
