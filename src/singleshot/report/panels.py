"""Pictures of what the multibox core does: panels with a heading, side by side, all on one photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.images.draw import class_colour, draw_box, draw_label
from singleshot.images.lettering import Colour, text_plate

Picture = NDArray[np.uint8]
Boxes = NDArray[np.floating]

PALETTE: tuple[Colour, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((204, 121, 167), (213, 94, 0), (150, 200, 60), (0, 114, 178)),
)
"""Colours that people who confuse some can tell apart as well (Okabe and Ito)."""

OBJECT, NEGATIVE = (255, 255, 255), (240, 60, 50)
WIDTH_PX = 1280
MOST_CANDIDATES = 500
"""More candidates than these best ones would hide the picture."""

_HEADING_SCALE, _HEADING_PAD = 0.5, 6
_PAPER, _INK = (32, 33, 36), (255, 255, 255)
_DIMMED = 0.55


class DrawnLevel(NamedTuple):
    """Default boxes of one feature map.

    Attributes:
        map_hw: cells of the map.
        boxes_xyxy: of all cells, as fractions of the image, ``[H, W, shapes, 4]``.
    """

    map_hw: tuple[int, int]
    boxes_xyxy: Boxes


class Match(NamedTuple):
    """An object and the anchors that learn it; boxes are fractions of the image.

    Attributes:
        name: of its class.
        box_xyxy: the object, ``[4]``.
        by_iou: anchors that overlap it enough, ``[N, 4]``.
        forced: anchors that learn it only because it would have none, ``[N, 4]``.
    """

    name: str
    box_xyxy: Boxes
    by_iou: Boxes
    forced: Boxes


def draw_levels(image_rgb: Picture, levels: Sequence[DrawnLevel]) -> Picture:
    """One panel per feature map: its cells, and the default boxes of a few of them."""
    columns = min(len(levels), 2 if len(levels) <= 4 else 3)
    panels = []
    for number, level in enumerate(levels):
        rows, cells = level.map_hw
        colour = PALETTE[number % len(PALETTE)]
        panel = _dim(_fit(image_rgb, WIDTH_PX // columns))
        _draw_grid(panel, level.map_hw)
        for row, column in _sample_cells(level.map_hw):
            centre = np.array([column, row, column + 1, row + 1]) / [cells, rows, cells, rows]
            _tint(panel, _pixels(panel, centre), colour)
            for box in level.boxes_xyxy[row, column]:
                _outline(panel, _pixels(panel, box), colour, 2)
        shapes = level.boxes_xyxy.shape[2]
        panels.append(_titled(panel, f"map {number + 1}: {rows} x {cells} cells, {shapes} boxes per cell"))
    return _grid(panels, columns)


def draw_matches(image_rgb: Picture, matches: Sequence[Match], negatives: Boxes, headings: tuple[str, str]) -> Picture:
    """Left the anchors that learn objects, each object in its colour; right those that learn background.

    Args:
        image_rgb: ``[H, W, 3]`` uint8.
        matches: the objects.
        negatives: mined anchors, as fractions of the image, ``[N, 4]``.
        headings: of the two panels.
    """
    left, right = (_dim(_fit(image_rgb, WIDTH_PX // 2)) for _ in range(2))
    for box in negatives:
        draw_box(right, _pixels(right, box), NEGATIVE, line_width=1)
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(matches))]
    for panel in (left, right):
        for match, colour in zip(matches, colours, strict=True):
            _tint(panel, _pixels(panel, match.box_xyxy), colour)
            _outline(panel, _pixels(panel, match.box_xyxy), OBJECT, 2)
    for match, colour in zip(matches, colours, strict=True):
        for box in match.by_iou:
            draw_box(left, _pixels(left, box), colour, line_width=2)
        for box in match.forced:
            draw_box(left, _pixels(left, box), colour, dashed=True, line_width=2)
    for match, colour in zip(matches, colours, strict=True):
        draw_label(left, _pixels(left, match.box_xyxy), match.name, colour)
    return _grid([_titled(left, headings[0]), _titled(right, headings[1])], 2)


def draw_selection(
    image_rgb: Picture, boxes: Boxes, class_ids: NDArray[np.integer], detected: Picture, headings: tuple[str, str]
) -> Picture:
    """Left all candidates, right what NMS leaves of them.

    Args:
        image_rgb: ``[H, W, 3]`` uint8.
        boxes: candidates, best first, as fractions of the image, ``[N, 4]``.
        class_ids: their classes, ``[N]``.
        detected: the image with its detections.
        headings: of the two panels.
    """
    left = _fit(image_rgb, WIDTH_PX // 2)
    for box, class_id in reversed(list(zip(boxes, class_ids, strict=True))[:MOST_CANDIDATES]):
        draw_box(left, _pixels(left, box), class_colour(int(class_id)), line_width=1)
    return _grid([_titled(left, headings[0]), _titled(_fit(detected, WIDTH_PX // 2), headings[1])], 2)


def enlarge(image_rgb: Picture) -> Picture:
    """The image as large as a panel, for whoever draws on it."""
    return _fit(image_rgb, WIDTH_PX // 2)


def _sample_cells(map_hw: tuple[int, int]) -> list[tuple[int, int]]:
    """A few cells on the diagonal: three of a fine map, one of a coarse one, whose boxes fill the image."""
    places = (0.2, 0.5, 0.8) if min(map_hw) >= 16 else (0.3, 0.7) if min(map_hw) >= 8 else (0.5,)
    return [(int(place * map_hw[0]), int(place * map_hw[1])) for place in places]


def _fit(image_rgb: Picture, width: int) -> Picture:
    """The image in a width; portraits are no higher than twice that."""
    height = image_rgb.shape[0] * width / image_rgb.shape[1]
    scale = min(1.0, 2 * width / height) * width / image_rgb.shape[1]
    size = max(1, round(image_rgb.shape[1] * scale)), max(1, round(image_rgb.shape[0] * scale))
    resized = cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized, dtype=np.uint8)


def _dim(image_rgb: Picture) -> Picture:
    """A greyer, darker copy, on which lines of any colour stand out."""
    grey = cv2.cvtColor(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(image_rgb, 0.5 * _DIMMED, grey, 0.5 * _DIMMED, 0), dtype=np.uint8)


def _pixels(picture: Picture, box: Boxes) -> Boxes:
    """A box given as fractions, in pixels of a picture."""
    height, width = picture.shape[:2]
    return np.asarray(box, dtype=np.float32) * np.array([width, height, width, height], dtype=np.float32)


def _draw_grid(picture: Picture, map_hw: tuple[int, int]) -> None:
    """Borders of the cells, faint."""
    rows, columns = map_hw
    height, width = picture.shape[:2]
    layer = picture.copy()
    for row in range(1, rows):
        cv2.line(layer, (0, round(row * height / rows)), (width, round(row * height / rows)), OBJECT, 1)
    for column in range(1, columns):
        cv2.line(layer, (round(column * width / columns), 0), (round(column * width / columns), height), OBJECT, 1)
    cv2.addWeighted(layer, 0.25, picture, 0.75, 0, dst=picture)


def _tint(picture: Picture, box: Boxes, colour: Colour) -> None:
    x0, y0, x1, y1 = (max(0, round(float(value))) for value in box)
    picture[y0:y1, x0:x1] = (0.6 * picture[y0:y1, x0:x1] + 0.4 * np.array(colour)).astype(np.uint8)


def _outline(picture: Picture, box: Boxes, colour: Colour, line_width: int) -> None:
    """A frame with a dark edge, to be seen on light ground."""
    draw_box(picture, box, (0, 0, 0), line_width=line_width + 2)
    draw_box(picture, box, colour, line_width=line_width)


def _titled(picture: Picture, heading: str) -> Picture:
    """The picture below a line of text, which shrinks where it would be wider."""
    scale = _HEADING_SCALE
    plate = text_plate(heading, scale, _HEADING_PAD, _INK, _PAPER)
    while plate.shape[1] > picture.shape[1] and scale > 0.2:
        scale -= 0.02
        plate = text_plate(heading, scale, _HEADING_PAD, _INK, _PAPER)
    plate = plate[:, : picture.shape[1]]
    strip = np.full((plate.shape[0] + 2, picture.shape[1], 3), _PAPER, np.uint8)
    strip[1 : 1 + plate.shape[0], : plate.shape[1]] = plate
    return np.concatenate([strip, picture])


def _grid(panels: Sequence[Picture], columns: int, gap: int = 6) -> Picture:
    """Panels in rows, white between them."""
    height, width = (max(panel.shape[axis] for panel in panels) for axis in (0, 1))
    rows = -(-len(panels) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, panel in enumerate(panels):
        y, x = number // columns * (height + gap), number % columns * (width + gap)
        sheet[y : y + panel.shape[0], x : x + panel.shape[1]] = panel
    return sheet
