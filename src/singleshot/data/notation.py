"""Boxes in another notation than their format's: fractions in place of pixels, corners in place of sizes.

Such boxes pass every check of a single record, and teach nonsense; all boxes together give them away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

# An image this small can have honest boxes in its first pixel.
SMALLEST_SIDE = 8
SLACK_PX = 1.0
MANY = 2
MANY_SHARE = 0.2
NEARLY_ALL = 0.95


def find_fractions(boxes: NDArray[np.float64], keep: Mask, sizes_wh: NDArray[np.float64], *, widths: bool) -> Mask:
    """Rows that must be fractions of the image: most boxes lie within the first pixel, and some are no whole numbers.

    Args:
        boxes: corners in what should be pixels, ``[N, 4]``.
        keep: rows that count, ``[N]``.
        sizes_wh: width and height of each row's image, ``[N, 2]``.
        widths: the files state width and height (and fractions may then be those of the centre).
    """
    written = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1) if widths else boxes
    within = keep & (written >= 0).all(axis=1) & (written <= 1 + 1e-6).all(axis=1)
    within &= sizes_wh.min(axis=1, initial=np.inf) >= SMALLEST_SIDE
    broken = (written != np.round(written)).any(axis=1)
    most = 2 * within.sum() > keep.sum() and (within & broken).any()
    return within if most else np.zeros_like(keep)


def find_corners(boxes: NDArray[np.float64], keep: Mask, sizes_wh: NDArray[np.float64]) -> Mask:
    """Rows of boxes written as x, y, width, height that must be x1, y1, x2, y2: many stick out, and so nearly all fit.

    Args:
        boxes: corners as computed from x, y, width, height, of one file, ``[N, 4]``.
        keep: rows that count, ``[N]``.
        sizes_wh: width and height of each row's image, ``[N, 2]``.

    Returns:
        ``keep``, or nothing.
    """
    low, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    out = keep & (boxes[:, 2:] > sizes_wh + SLACK_PX).any(axis=1)
    fit = keep & (sides > low).all(axis=1) & (sides <= sizes_wh + SLACK_PX).all(axis=1)
    count = int(keep.sum())
    many = out.sum() >= max(MANY, MANY_SHARE * count) and fit.sum() >= NEARLY_ALL * count
    return keep if many else np.zeros_like(keep)
