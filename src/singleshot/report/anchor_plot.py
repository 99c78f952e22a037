"""A plot of widths and heights: objects as dots, default boxes as squares, on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.images.lettering import text_plate

SIDE, MARGIN, HEADING = 480, 56, 30
PAPER, INK, LINE = (255, 255, 255), (40, 40, 40), (225, 225, 225)
DOT, SQUARE = (86, 140, 220), (213, 94, 0)
MOST_DOTS = 5000
DECADE_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def plot_sides(
    objects_wh: NDArray[np.floating], panels: Sequence[tuple[str, NDArray[np.floating]]]
) -> NDArray[np.uint8]:
    """One panel per set of default boxes, side by side.

    Args:
        objects_wh: width and height of the objects in pixels of the network input, ``[N, 2]``.
        panels: a heading and the sides of its default boxes, ``[A, 2]``.

    Returns:
        RGB, ``[H, W, 3]`` uint8.
    """
    chosen = np.linspace(0, len(objects_wh) - 1, min(len(objects_wh), MOST_DOTS)).astype(int)
    dots = np.asarray(objects_wh, dtype=np.float64)[chosen]
    every = np.concatenate([dots, *(np.asarray(sides, dtype=np.float64) for _, sides in panels)])
    every = every[np.isfinite(every) & (every > 0)]
    low, high = np.log(every.min(initial=1e4) / 1.3), np.log(every.max(initial=1.0) * 1.3)
    return np.concatenate([_panel(heading, dots, sides, (low, high)) for heading, sides in panels], axis=1)


def _panel(
    heading: str, dots: NDArray[np.floating], squares: NDArray[np.floating], span: tuple[float, float]
) -> NDArray[np.uint8]:
    picture = np.full((SIDE + MARGIN + HEADING, SIDE + MARGIN + 16, 3), PAPER, np.uint8)
    low, high = span

    def place(value: float) -> int:
        return round((math.log(value) - low) / (high - low) * SIDE)

    bottom = HEADING + SIDE
    for tick in (tick for tick in DECADE_TICKS if low < np.log(tick) < high):
        x, y = MARGIN + place(tick), bottom - place(tick)
        cv2.line(picture, (x, HEADING), (x, bottom), LINE, 1)
        cv2.line(picture, (MARGIN, y), (MARGIN + SIDE, y), LINE, 1)
        _write(picture, str(tick), x - 8, bottom + 4)
        _write(picture, str(tick), MARGIN - 40, y - 8)
    cv2.rectangle(picture, (MARGIN, HEADING), (MARGIN + SIDE, bottom), INK, 1)
    _write(picture, "width, px of the network input", MARGIN + SIDE // 2 - 90, bottom + 26)
    _write(picture, "height", 2, HEADING - 2)
    _write(picture, heading, MARGIN, 6)
    for width, height in dots:
        cv2.circle(
            picture, (MARGIN + place(max(width, 1e-3)), bottom - place(max(height, 1e-3))), 2, DOT, -1, cv2.LINE_AA
        )
    for width, height in np.unique(np.asarray(squares, dtype=np.float64).round(1), axis=0):
        if np.isfinite([width, height]).all() and min(width, height) > 0:
            x, y = MARGIN + place(width), bottom - place(height)
            cv2.rectangle(picture, (x - 4, y - 4), (x + 4, y + 4), SQUARE, 2)
    return picture


def _write(picture: NDArray[np.uint8], text: str, x: int, y: int) -> None:
    plate = text_plate(text, 0.4, 2, INK, PAPER)
    y, x = max(0, min(y, picture.shape[0] - plate.shape[0])), max(0, min(x, picture.shape[1] - plate.shape[1]))
    picture[y : y + plate.shape[0], x : x + plate.shape[1]] = plate[:, : picture.shape[1] - x]
