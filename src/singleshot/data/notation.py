"""Boxes in another notation than their format's: fractions in place of pixels, corners in place of sizes, and the like.

Such boxes pass every check of a single record, and teach nonsense; all boxes together give them away.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Form = Literal["corners", "size", "centre"]
FORM_WORDS: dict[Form, str] = {
    "corners": "corners x1, y1, x2, y2",
    "size": "a corner and a size x, y, width, height",
    "centre": "a centre and a size cx, cy, width, height",
}

# An image this small can have honest boxes in its first pixel.
SMALLEST_SIDE = 8
SLACK_PX = 1.0
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


class _Bar(NamedTuple):
    """When boxes are taken for another form than the stated one.

    Attributes:
        least: so many must be impossible as stated,
        share: and at least this share of all,
        slack: by more than this share of the image's side (and a pixel).
    """

    least: int
    share: float
    slack: float = 0.0


# A centre that is a corner in truth leaves the image at the left and the top alone, which honest boxes do not. Objects
# that fill their images fit as corners, too: there it takes more.
_BARS: dict[tuple[Form, Form], _Bar] = {
    ("size", "corners"): _Bar(2, 0.2),
    ("size", "centre"): _Bar(4, 0.2),
    ("centre", "corners"): _Bar(4, 0.4, slack=0.05),
    ("centre", "size"): _Bar(8, 0.05),
    ("corners", "size"): _Bar(4, 0.2),
    ("corners", "centre"): _Bar(4, 0.2),
}


def find_other_forms(boxes: NDArray[np.float64], keep: Mask, sizes_wh: NDArray[np.float64], stated: Form) -> list[Form]:
    """Forms that boxes must be in instead of the stated one: many are impossible, and so nearly all fit.

    Args:
        boxes: corners in pixels as computed from the stated form, of files that are alike, ``[N, 4]``.
        keep: rows that count, ``[N]``.
        sizes_wh: width and height of each row's image, ``[N, 2]``.
        stated: what the files are said to hold.

    Returns:
        The form that fits best, then others that fit as well as that; none where the stated one may be right.
    """
    count = int(keep.sum())
    fits: dict[Form, int] = {}
    for (one, other), asked in _BARS.items():
        if one != stated:
            continue
        bad = int((keep & ~_possible(boxes, sizes_wh, asked.slack)).sum())
        if bad >= max(asked.least, asked.share * count):
            fits[other] = int((keep & _possible(_as_corners(as_written(boxes, stated), other), sizes_wh)).sum())
    good = [form for form, number in fits.items() if number >= NEARLY_ALL * count]
    return sorted(good, key=lambda form: -fits[form])


def _possible(corners: NDArray[np.float64], sizes_wh: NDArray[np.float64], slack: float = 0.0) -> Mask:
    low, high, most = corners[:, :2], corners[:, 2:], np.maximum(SLACK_PX, slack * sizes_wh)
    return np.asarray(((high > low) & (low >= -most) & (high <= sizes_wh + most)).all(axis=1), bool)


def as_written(corners: NDArray[np.float64], form: Form) -> NDArray[np.float64]:
    """The four numbers of boxes in a form, ``[N, 4]``, from their corners, ``[N, 4]``."""
    low, high = corners[:, :2], corners[:, 2:]
    if form == "corners":
        return corners
    return np.concatenate([low if form == "size" else (low + high) / 2, high - low], axis=1)


def _as_corners(written: NDArray[np.float64], form: Form) -> NDArray[np.float64]:
    first, second = written[:, :2], written[:, 2:]
    if form == "corners":
        return written
    low = first if form == "size" else first - second / 2
    return np.concatenate([low, low + second], axis=1)
