"""From an RGB image to the network's input, exactly as the weights were trained. NumPy and OpenCV only.

Every resize here follows one system to the bit or to float rounding (see `PreprocessConfig.resize`): another
interpolation moves a detector's scores and costs average precision.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from singleshot.config import PreprocessConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    resized = resize_image(image_rgb, config)
    planes = list(out) if config.channel_order == "rgb" else list(out[::-1])
    if config.resize in ("linear", "linear_antialias"):
        _normalise_bytes(resized, planes, config)
    else:
        cv2.split(resized, planes)
        _normalise_floats(out, config)
    return out


def resize_image(image_rgb: Uint8Image, config: PreprocessConfig) -> Uint8Image | FloatImage:
    """The resize step alone: ``[height, width, 3]``, uint8 or float32 as the method has it."""
    if config.resize == "linear":
        height, width = config.size_hw
        resized: Uint8Image = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_LINEAR)
        return resized
    if config.resize == "linear_antialias":
        return _resize_antialias(image_rgb, config.size_hw)
    return _resize_bilinear(image_rgb, config.size_hw, config.resize == "linear_float")


def _normalise_bytes(resized: NDArray[Any], planes: list[FloatImage], config: PreprocessConfig) -> None:
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


class _Taps(NamedTuple):
    """Where each output pixel reads: two columns, two rows, and how far it lies between them.

    Attributes:
        corners: (column, row) of the top left, top right, bottom left and bottom right pixel, ``[height, width, 2]``.
        right: share of the right pixels, ``[1, width * 3]``.
        down: share of the bottom pixels, ``[height, 1]``.
    """

    corners: tuple[NDArray[Any], ...]
    right: FloatImage
    down: FloatImage


def _resize_bilinear(image: Uint8Image, size_hw: tuple[int, int], half_pixel: bool) -> FloatImage:
    """Bilinear on float32: along x on both rows, then along y, in TF's order of operations (bit-equal to it).

    ``cv2.remap`` with whole-number coordinates is the quickest gather; its own interpolation has only 5 bits, and its
    coordinates only 16, so panoramas are gathered by NumPy.
    """
    taps = _bilinear_taps(image.shape[:2], size_hw, half_pixel)
    top_left, top_right, bottom_left, bottom_right = (_gather(image, corner) for corner in taps.corners)
    top = _between(top_left, top_right, taps.right)
    bottom = _between(bottom_left, bottom_right, taps.right)
    bottom -= top
    bottom *= taps.down
    bottom += top
    return bottom.reshape(*size_hw, 3)


def _gather(image: Uint8Image, columns_and_rows: NDArray[Any]) -> Uint8Image:
    if columns_and_rows.dtype != np.int16:
        return np.asarray(image[columns_and_rows[..., 1], columns_and_rows[..., 0]])
    pixels: Uint8Image = cv2.remap(image, columns_and_rows, None, cv2.INTER_NEAREST)
    return pixels


def _between(start: Uint8Image, end: Uint8Image, share: FloatImage) -> FloatImage:
    """Between two images ``[h, w, 3]``, as ``[h, w * 3]``: long rows are what NumPy is quick with."""
    start, end = (image.reshape(len(image), -1) for image in (start, end))
    step: FloatImage = cv2.subtract(end, start, dtype=cv2.CV_32F)
    step *= share
    step += start
    return step


@lru_cache(maxsize=16)
def _bilinear_taps(from_hw: tuple[int, int], to_hw: tuple[int, int], half_pixel: bool) -> _Taps:
    top, bottom, down = _axis_taps(from_hw[0], to_hw[0], half_pixel)
    left, right, across = _axis_taps(from_hw[1], to_hw[1], half_pixel)
    dtype = np.int16 if max(from_hw) <= np.iinfo(np.int16).max else np.int64
    corners = tuple(_grid(columns, rows, dtype) for rows in (top, bottom) for columns in (left, right))
    return _Taps(corners, across.repeat(3)[None], down[:, None])


def _grid(columns: NDArray[np.int64], rows: NDArray[np.int64], dtype: type) -> NDArray[Any]:
    """(column, row) of every output pixel, ``[height, width, 2]``."""
    grid: NDArray[Any] = np.empty((len(rows), len(columns), 2), dtype=dtype)
    grid[..., 0] = columns
    grid[..., 1] = rows[:, None]
    return grid


def _axis_taps(
    size_in: int, size_out: int, half_pixel: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatImage]:
    """Low index, high index and share of the high one for each output position, in float32 as TF and torch have it."""
    scale = np.float32(size_in) / np.float32(size_out)
    positions = np.arange(size_out, dtype=np.float32)
    if half_pixel:
        positions = np.maximum((positions + np.float32(0.5)) * scale - np.float32(0.5), np.float32(0))
    else:
        positions = positions * scale
    low = np.minimum(np.floor(positions).astype(np.int64), size_in - 1)
    return low, np.minimum(low + 1, size_in - 1), positions - low.astype(np.float32)


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
