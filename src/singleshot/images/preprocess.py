"""From an RGB image to the network's input, exactly as the weights were trained. NumPy and OpenCV only.

Every resize here follows one system to the bit or to float rounding (see `PreprocessConfig.resize`): another
interpolation moves a detector's scores and costs average precision. `kernels.resize` has compiled forms of most steps,
with the same results. `images.normalise` names the forms of the last step.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.core.settings import PreprocessConfig
from singleshot.kernels import resize
from singleshot.kernels.resize import AxisTaps, Normalisation

FloatImage = NDArray[np.float32]
Uint8Image = NDArray[np.uint8]


def preprocess_image(image_rgb: Uint8Image, config: PreprocessConfig, out: FloatImage | None = None) -> FloatImage:
    """Resize and normalise one image.

    Args:
        image_rgb: ``[H, W, 3]`` uint8.
        config: the weights' numbers.
        out: where to write, ``[3, height, width]`` float32, contiguous; a new array by default.

    Returns:
        ``out``: ``[3, height, width]`` float32 in the network's channel order.
    """
    if out is None:
        out = np.empty((3, *config.size_hw), dtype=np.float32)
    reverse = config.channel_order == "bgr"
    planes = out[::-1] if reverse else out
    numbers = Normalisation(config.scale, config.mean, config.std, reverse)
    if config.resize in ("linear", "linear_antialias"):
        resized = resize_image(image_rgb, config)
        if not resize.normalise_bytes(resized, numbers, out):
            _normalise_bytes(resized, list(planes), config)
    elif not resize.resize_bilinear(image_rgb, *_taps(image_rgb, config), numbers, out):
        _resize_bilinear(image_rgb, planes, config.resize == "linear_float")
        _normalise_floats(out, config)
    return out


def resize_image(image_rgb: Uint8Image, config: PreprocessConfig) -> Uint8Image:
    """The resize step alone, of the methods that round to bytes: ``[height, width, 3]`` uint8."""
    if config.resize == "linear_antialias":
        return _resize_antialias(image_rgb, config.size_hw)
    height, width = config.size_hw
    resized: Uint8Image = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized


def _normalise_bytes(resized: Uint8Image, planes: list[FloatImage], config: PreprocessConfig) -> None:
    """A byte has 256 values: look the normalised ones up."""
    tables = _tables(config.scale, config.mean, config.std)
    order = range(3) if config.channel_order == "rgb" else range(2, -1, -1)
    for plane, channel, source in zip(planes, cv2.split(resized), order, strict=True):
        cv2.LUT(channel, tables[source], plane)


@lru_cache(maxsize=16)
def _tables(scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    values = np.arange(256, dtype=np.float32) * np.float32(scale)
    means, stds = (np.array(numbers, dtype=np.float32)[:, None] for numbers in (mean, std))
    return np.asarray((values - means) / stds)


def _normalise_floats(planes: FloatImage, config: PreprocessConfig) -> None:
    if config.scale != 1.0:
        planes *= np.float32(config.scale)
    for plane, mean, std in zip(planes, config.mean, config.std, strict=True):
        if mean != 0.0:
            plane -= np.float32(mean)
        if std != 1.0:
            plane /= np.float32(std)


# Rows of output that are computed together: their pixels and floats stay in the second-level cache.
_BAND_ROWS = 75


class _Band(NamedTuple):
    """Some rows of output and the rows of the image that they need.

    Attributes:
        source: rows of the image; a list where it shrinks so much that some are not needed.
        target: rows of the output.
        top, bottom: the two rows that each output row lies between, counted in ``source``.
        down: share of the bottom row, ``[rows, 1]``.
    """

    source: slice | NDArray[np.int64]
    target: slice
    top: NDArray[np.int64]
    bottom: NDArray[np.int64]
    down: FloatImage


class _Taps(NamedTuple):
    """Where the output reads the image.

    Attributes:
        left, right: the two columns that each output column lies between, ``[width]``.
        across: share of the right column, ``[width]``.
        bands: the same for the rows.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    across: FloatImage
    bands: tuple[_Band, ...]


def _resize_bilinear(image: Uint8Image, planes: FloatImage, half_pixel: bool) -> None:
    """Bilinear on float32: along x on every row, then along y, in TF's order of operations (bit-equal to it).

    OpenCV's own float bilinear rounds elsewhere. Four bytes to a pixel make the columns a gather of whole words.
    """
    taps = _bilinear_taps(image.shape[:2], planes.shape[1:], half_pixel)
    for band in taps.bands:
        words = cv2.cvtColor(image[band.source], cv2.COLOR_RGB2RGBA).view(np.uint32)[..., 0]
        left, right = (words.take(columns, axis=1, mode="clip") for columns in (taps.left, taps.right))
        bytes_shape = (*left.shape, 4)
        left, right = (column.view(np.uint8).reshape(bytes_shape) for column in (left, right))
        for channel, plane in enumerate(planes):
            start = cv2.extractChannel(left, channel)
            rows = cv2.subtract(cv2.extractChannel(right, channel), start, dtype=cv2.CV_32F)
            rows *= taps.across
            rows += start
            top, bottom = (rows.take(places, axis=0, mode="clip") for places in (band.top, band.bottom))
            bottom -= top
            bottom *= band.down
            np.add(bottom, top, out=plane[band.target])


@lru_cache(maxsize=64)
def _bilinear_taps(from_hw: tuple[int, int], to_hw: tuple[int, int], half_pixel: bool) -> _Taps:
    top, bottom, down = _axis_taps(from_hw[0], to_hw[0], half_pixel)
    bands = []
    for start in range(0, to_hw[0], _BAND_ROWS):
        target = slice(start, min(start + _BAND_ROWS, to_hw[0]))
        needed, places = np.unique(np.stack([top[target], bottom[target]]), return_inverse=True)
        first, end = int(needed[0]), int(needed[-1]) + 1
        source = slice(first, end) if end - first == len(needed) else needed
        low, high = places.reshape(2, -1)
        bands.append(_Band(source, target, low, high, down[target, None]))
    return _Taps(*_axis_taps(from_hw[1], to_hw[1], half_pixel), tuple(bands))


def _taps(image: Uint8Image, config: PreprocessConfig) -> tuple[AxisTaps, AxisTaps]:
    """Of the columns and of the rows."""
    (height, width), half_pixel = config.size_hw, config.resize == "linear_float"
    return _axis_taps(image.shape[1], width, half_pixel), _axis_taps(image.shape[0], height, half_pixel)


@lru_cache(maxsize=512)
def _axis_taps(size_in: int, size_out: int, half_pixel: bool) -> AxisTaps:
    """Low index, high index and share of the high one for each output position, in float32 as TF and torch have it."""
    scale = np.float32(size_in) / np.float32(size_out)
    positions = np.arange(size_out, dtype=np.float32)
    if half_pixel:
        positions = np.maximum((positions + np.float32(0.5)) * scale - np.float32(0.5), np.float32(0))
    else:
        positions = positions * scale
    low = np.minimum(np.floor(positions).astype(np.int64), size_in - 1)
    return AxisTaps(low, np.minimum(low + 1, size_in - 1), positions - low.astype(np.float32))


# Pillow computes with weights of 22 bits (32 bits less 8 of the pixel and 2 of headroom).
_PILLOW_BITS = 22


def _resize_antialias(image: Uint8Image, size_hw: tuple[int, int]) -> Uint8Image:
    """Pillow's bilinear: a triangle as wide as the shrinking, rounded to bytes after x and again after y.

    (Pillow 13 takes y first where that is cheaper, which moves some bytes by 1.)
    """
    height, width = size_hw
    if image.shape[1] != width:
        image = cv2.transpose(_shrink_rows(cv2.transpose(image), width))
    if image.shape[0] != height:
        image = _shrink_rows(image, height)
    return image


def _shrink_rows(image: Uint8Image, rows: int) -> Uint8Image:
    """Weighted sums of rows, ``[H, W, 3]`` to ``[rows, W, 3]``, in Pillow's integers."""
    indices, weights = _triangle_taps(image.shape[0], rows)
    summed = resize.weigh_rows(image, indices, weights, _PILLOW_BITS)
    if summed is not None:
        return summed
    flat = image.reshape(image.shape[0], -1)
    total = np.full((rows, flat.shape[1]), 1 << (_PILLOW_BITS - 1), dtype=np.int32)
    product = np.empty_like(total)
    for index, weight in zip(indices, weights, strict=True):
        np.multiply(flat[index], weight[:, None], out=product)
        total += product
    total >>= _PILLOW_BITS
    return total.clip(0, 255).astype(np.uint8).reshape(rows, *image.shape[1:])


@lru_cache(maxsize=32)
def _triangle_taps(size_in: int, size_out: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Row indices and integer weights of each tap, both ``[taps, size_out]``; unused taps weigh 0."""
    scale = size_in / size_out
    reach = max(scale, 1.0)
    centre = (np.arange(size_out) + 0.5) * scale
    first = np.maximum(np.floor(centre - reach + 0.5), 0).astype(np.int64)
    last = np.minimum(np.floor(centre + reach + 0.5), size_in).astype(np.int64)
    indices = first + np.arange((last - first).max())[:, None]
    weights = (1.0 - np.abs((indices - centre + 0.5) / reach)).clip(min=0.0) * (indices < last)
    weights /= weights.sum(axis=0)
    return indices.clip(max=size_in - 1), np.floor(weights * (1 << _PILLOW_BITS) + 0.5).astype(np.int32)
