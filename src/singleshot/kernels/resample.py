"""Binding of ``resample.c``: resize by weighted sums of pixels."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.kernels.library import load


class Filter(NamedTuple):
    """What an output position takes of the image along one axis.

    Attributes:
        first: row or column where its pixels begin, ``[size]``: from -taps to the image's size. Beyond the edge the
            image repeats its last pixel.
        weights: of the pixels from there on, ``[size, taps]``.
    """

    first: NDArray[np.int64]
    weights: NDArray[np.float32]


class _Filter(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_int64),
        ("taps", ctypes.c_int64),
        ("first", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
    )


def has_kernel() -> bool:
    """Whether `filter_image` is there."""
    return _library() is not None


def filter_image(image: NDArray[np.uint8], down: Filter, across: Filter) -> NDArray[np.uint8]:
    """Weighted sums of rows, then of columns, in float32; rounded (half to even) and clamped to bytes.

    Args:
        image: ``[H, W, 3]``, not empty.
        down, across: what to take of the rows and of the columns.

    Returns:
        ``[down's size, across's size, 3]``.

    Raises:
        RuntimeError: there is no compiled form (`has_kernel`).
        ValueError: not an image, or a filter that begins too far outside it.
        MemoryError: there is no memory.
    """
    library = _library()
    if library is None:
        raise RuntimeError("this has no compiled form here")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image of {image.dtype} {image.shape}: expected uint8 [H, W, 3], not empty")
    if image.strides[1:] != (3, 1):
        image = np.ascontiguousarray(image)
    height, width = image.shape[:2]
    tables = _checked(down, height), _checked(across, width)
    out = np.empty((len(down.first), len(across.first), 3), dtype=np.uint8)
    pointers = [_Filter(*table.weights.shape, *(array.ctypes.data for array in table)) for table in tables]
    if library.filter_image(image.ctypes.data, height, width, image.strides[0], *pointers, out.ctypes.data):
        raise MemoryError
    return out


@cache
def _library() -> ctypes.CDLL | None:
    library = load("resample", functions=("filter_image",))
    if library is not None:
        pointer, integer, filters = ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(_Filter)
        library.filter_image.argtypes = (pointer, integer, integer, integer, filters, filters, pointer)
    return library


def _checked(table: Filter, size: int) -> Filter:
    first, weights = np.ascontiguousarray(table.first, np.int64), np.ascontiguousarray(table.weights, np.float32)
    if weights.ndim != 2 or first.shape != weights.shape[:1] or not weights.size:
        raise ValueError(
            f"places {first.shape} and weights {weights.shape}: expected [size] and [size, taps], not empty"
        )
    if first.min() < -weights.shape[1] or first.max() > size:
        raise ValueError(f"places {first.min()}..{first.max()}: expected {-weights.shape[1]}..{size}")
    return Filter(first, weights)
