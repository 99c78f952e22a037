"""OpenCV's area and Lanczos interpolation as tables of pixels and weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from singleshot.kernels.resample import Filter

# OpenCV leaves out shares of a pixel smaller than this.
_LEAST_SHARE = 1e-3


def lanczos_filter(size: int, factor: float) -> Filter:
    """Eight pixels, weighted by ``sinc(t) sinc(t / 4)`` of their distance t and normalised.

    Args:
        size: of the image along this axis.
        factor: output size over image size.
    """
    positions = ((np.arange(round(size * factor)) + 0.5) * (1 / factor) - 0.5).astype(np.float32)
    low = np.floor(positions)
    taps = np.arange(-3, 5, dtype=np.float32)[:, None]
    distances = positions - low - taps
    # sinc(t) has the same sine in all taps but for its sign: what is left of the product is sin(pi t / 4) / t^2.
    exact = np.abs(distances) < 1e-6
    weights = np.sin(distances * np.float32(np.pi / 4)) / np.where(exact, np.float32(1), distances * distances)
    weights[::2] *= -1
    hits = exact.any(axis=0)
    weights[:, hits] = exact[:, hits]
    weights /= weights.sum(axis=0)
    return Filter(low.astype(np.int64) - 3, weights.T)


def area_filter(size: int, factor: float, shrinks: bool) -> Filter:
    """Every pixel by the share of the output pixel that it covers; where the image grows, OpenCV takes two.

    Args:
        size: of the image along this axis.
        factor: output size over image size.
        shrinks: whether neither axis grows.
    """
    start = np.arange(round(size * factor), dtype=np.float64) * (1 / factor)  # rounded as OpenCV does
    return _covered(size, start, 1 / factor) if shrinks else _between_two(start, factor)


def _covered(size: int, start: NDArray[np.float64], step: float) -> Filter:
    end = np.minimum(start + step, size)
    first = np.floor(start)
    places = first + np.arange(int(np.ceil(step)) + 1)[:, None]
    shares = np.minimum(places + 1, end) - np.maximum(places, start)
    shares[shares <= _LEAST_SHARE] = 0
    weights = shares / np.minimum(step, size - start)
    return Filter(first.astype(np.int64), weights.T.astype(np.float32))


def _between_two(start: NDArray[np.float64], factor: float) -> Filter:
    low = np.floor(start)
    share = (np.arange(len(start)) + 1 - (low + 1) * factor).astype(np.float32)
    share = np.where(share <= 0, 0, share - np.floor(share))
    return Filter(low.astype(np.int64), np.stack([1 - share, share], axis=1))
