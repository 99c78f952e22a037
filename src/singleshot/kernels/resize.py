"""Binding of ``resize.c``: resize and normalise in one pass. Every function says whether there was a kernel to run."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.kernels.library import load

FUNCTIONS = ("resize_bilinear", "normalise_bytes", "weigh_rows")


class AxisTaps(NamedTuple):
    """Where the output of a bilinear resize reads the image along one axis.

    Attributes:
        low, high: the two places that each output position lies between, ``[size]``; low never falls.
        share: of the high one, ``[size]``.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    share: NDArray[np.float32]


class _AxisTaps(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_int64),
        ("low", ctypes.c_void_p),
        ("high", ctypes.c_void_p),
        ("share", ctypes.c_void_p),
    )


class _Normalisation(ctypes.Structure):
    _fields_ = (
        ("scale", ctypes.c_float),
        ("mean", ctypes.c_float * 3),
        ("std", ctypes.c_float * 3),
        ("reversed", ctypes.c_int32),
    )


class Normalisation(NamedTuple):
    """Numbers of the rule of `PreprocessConfig`, for planes.

    Attributes:
        scale: factor on 0..255.
        mean, std: of each plane, ``[3]``.
        reverse: whether the planes are the image's channels from the last to the first.
    """

    scale: float
    mean: Sequence[float]
    std: Sequence[float]
    reverse: bool


def resize_bilinear(
    image: NDArray[np.uint8], across: AxisTaps, down: AxisTaps, numbers: Normalisation, out: NDArray[np.float32]
) -> bool:
    """Bilinear resize on float32, then normalise.

    Args:
        image: ``[H, W, 3]``, not empty.
        across, down: places in the image's columns and rows.
        numbers: of the normalisation.
        out: ``[3, height, width]``, where to write.

    Returns:
        Whether ``out`` was written: not without a kernel, nor where ``out`` is not contiguous.

    Raises:
        ValueError: sizes do not go together, or places lie outside the image.
    """
    library = _library()
    if library is None or not _is_plain(out):
        return False
    _check_image(image)
    if image.strides[1:] != (3, 1):
        image = np.ascontiguousarray(image)
    height, width = image.shape[:2]
    if len(out) != 3 or out.ndim != 3:
        raise ValueError(f"out has the shape {out.shape}: expected (3, height, width)")
    across, down = _checked(across, width, out.shape[2]), _checked(down, height, out.shape[1])
    where, stride = image.ctypes.data, image.strides[0]
    taps = _pointers(across), _pointers(down)
    return not library.resize_bilinear(where, width, stride, *taps, _numbers(numbers), out.ctypes.data)


def normalise_bytes(image: NDArray[np.uint8], numbers: Normalisation, out: NDArray[np.float32]) -> bool:
    """Normalise ``[H, W, 3]`` into ``out``, ``[3, H, W]``; returns whether it was written, as `resize_bilinear`."""
    library = _library()
    if library is None or not _is_plain(out):
        return False
    _check_image(image)
    if out.shape != (3, *image.shape[:2]):
        raise ValueError(f"out has the shape {out.shape}: expected {(3, *image.shape[:2])}")
    image = np.ascontiguousarray(image)
    library.normalise_bytes(image.ctypes.data, out[0].size, _numbers(numbers), out.ctypes.data)
    return True


def weigh_rows(
    image: NDArray[np.uint8], indices: NDArray[np.int64], weights: NDArray[np.int32], bits: int
) -> NDArray[np.uint8] | None:
    """Weighted sums of rows, in integers, rounded and clamped to bytes.

    Args:
        image: ``[H, ...]``.
        indices: rows to take, ``[taps, rows]``.
        weights: of each, ``[taps, rows]``; ``2**bits`` is 1.
        bits: of the weights.

    Returns:
        ``[rows, ...]``; ``None`` without a kernel.

    Raises:
        ValueError: sizes do not go together, or rows lie outside the image.
    """
    library = _library()
    if library is None or not image.size:
        return None
    indices, weights = np.ascontiguousarray(indices, np.int64), np.ascontiguousarray(weights, np.int32)
    if image.dtype != np.uint8 or indices.ndim != 2 or indices.shape != weights.shape or not 1 <= bits <= 30:
        raise ValueError(f"{image.dtype}, indices {indices.shape}, weights {weights.shape}, {bits} bits: do not fit")
    if indices.size and not 0 <= indices.min() <= indices.max() < len(image):
        raise ValueError(f"rows {indices.min()}..{indices.max()} of an image of {len(image)}")
    image = np.ascontiguousarray(image)
    taps, rows = indices.shape
    out = np.empty((rows, *image.shape[1:]), dtype=np.uint8)
    sizes, tables = (image[0].size, taps, rows), (indices.ctypes.data, weights.ctypes.data, bits)
    failed = library.weigh_rows(image.ctypes.data, *sizes, *tables, out.ctypes.data)
    return None if failed else out


def has_kernel() -> bool:
    """Whether the compiled forms are there."""
    return _library() is not None


@cache
def _library() -> ctypes.CDLL | None:
    library = load("resize", "-ffp-contract=off", functions=FUNCTIONS)
    if library is not None:
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        taps = ctypes.POINTER(_AxisTaps)
        numbers = ctypes.POINTER(_Normalisation)
        library.resize_bilinear.argtypes = (pointer, integer, integer, taps, taps, numbers, pointer)
        library.normalise_bytes.argtypes = (pointer, integer, numbers, pointer)
        library.normalise_bytes.restype = None
        library.weigh_rows.argtypes = (
            pointer, integer, integer, integer, pointer, pointer, ctypes.c_int32, pointer,
        )  # fmt: skip
    return library


def _is_plain(out: NDArray[np.float32]) -> bool:
    return out.flags.c_contiguous and out.dtype == np.float32


def _numbers(numbers: Normalisation) -> _Normalisation:
    three = ctypes.c_float * 3
    return _Normalisation(numbers.scale, three(*numbers.mean), three(*numbers.std), numbers.reverse)


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image of {image.dtype} {image.shape}: expected uint8 [H, W, 3], not empty")


def _checked(taps: AxisTaps, size: int, positions: int) -> AxisTaps:
    """Places as C reads them, all of them within ``size``."""
    low, high = (np.ascontiguousarray(places, np.int64) for places in (taps.low, taps.high))
    share = np.ascontiguousarray(taps.share, np.float32)
    if not low.shape == high.shape == share.shape == (positions,):
        raise ValueError(f"places {low.shape}, {high.shape} and shares {share.shape} of {positions} positions")
    if positions and not (low[0] >= 0 and (low[1:] >= low[:-1]).all() and low[-1] < size):
        raise ValueError(f"low places are not rising within 0..{size - 1}")
    if positions and not 0 <= high.min() <= high.max() < size:
        raise ValueError(f"high places lie outside 0..{size - 1}")
    return AxisTaps(low, high, share)


def _pointers(taps: AxisTaps) -> _AxisTaps:
    return _AxisTaps(len(taps.low), taps.low.ctypes.data, taps.high.ctypes.data, taps.share.ctypes.data)
