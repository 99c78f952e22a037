"""Pixels of a geometry: decode no more than is needed, crop, resize once, distort the small image, fill, mirror."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.augment.colour import Distortion, FloatImage, distort, to_uint8
from singleshot.augment.config import Interpolation
from singleshot.augment.filters import area_filter, lanczos_filter
from singleshot.augment.geometry import Geometry
from singleshot.errors import ImageError
from singleshot.images.header import is_cut_off, read_header
from singleshot.images.packed import image_bytes
from singleshot.images.read import MAX_PIXELS, read_image
from singleshot.kernels.resample import Filter, filter_image, has_kernel

Image = NDArray[np.uint8]

_FLAGS: dict[Interpolation, int] = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
    "lanczos4": cv2.INTER_LANCZOS4,
}
TINY = 1e-6
# `kernels.resample` computes these. OpenCV vectorises them for float32 only: converting there and back is quicker.
_QUICKER_IN_FLOAT = frozenset({cv2.INTER_AREA, cv2.INTER_LANCZOS4})
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


class Pixels(NamedTuple):
    """A decoded image.

    Attributes:
        image: upright RGB, ``[ceil(H / reduction), ceil(W / reduction), 3]``.
        size_hw: (H, W).
        reduction: how much smaller it was read.
    """

    image: Image
    size_hw: tuple[int, int]
    reduction: int = 1


def decode(source: Path | bytes, image_hw: tuple[int, int], reduction: int) -> Pixels:
    """Read an image at full size, or at 1/2, 1/4 or 1/8 where its format allows.

    Args:
        source: path, or the bytes of a file.
        image_hw: upright size that the data set knows.
        reduction: how much smaller the result may be.

    Raises:
        ImageError: unreadable, or of another size.
    """
    pixels = _decode_reduced(source, image_hw, reduction) if reduction > 1 else None
    if pixels is None:
        image = read_image(source)
        if image.shape[:2] != image_hw:
            name = source if isinstance(source, Path) else "image"
            raise ImageError(
                f"{name}: has (height, width) {image.shape[:2]}, not {image_hw} as in the data set: read that again"
            )
        pixels = Pixels(image, image_hw)
    return pixels


def _decode_reduced(source: Path | bytes, image_hw: tuple[int, int], reduction: int) -> Pixels | None:
    """A JPEG's decoder can leave out fine detail. ``None``: read it the usual way, which also words the errors."""
    data = source if isinstance(source, bytes) else _bytes_of(source)
    if not _reducible(data, image_hw, reduction):
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[reduction])
    if image is None or image.shape[:2] != tuple(-(-side // reduction) for side in image_hw):
        return None
    return Pixels(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), image_hw, reduction)


def _reducible(data: bytes, image_hw: tuple[int, int], reduction: int) -> bool:
    """Whether a file is a whole JPEG of the expected size whose reduced pixels lie on our grid."""
    if not data.startswith(b"\xff\xd8\xff") or image_hw[0] * image_hw[1] > MAX_PIXELS:
        return False
    try:
        header = read_header(data)
    except (IndexError, ValueError, struct.error):
        return False
    if header is None or header.upright_size_hw != image_hw or is_cut_off(data, header):
        return False
    # A turned image begins with the padding of an incomplete last pixel, if there is one: its grid is not ours.
    return header.orientation == 1 or not any(side % reduction for side in image_hw)


def _bytes_of(path: Path) -> bytes:
    try:
        return image_bytes(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error


def render(
    pixels: Pixels,
    geometry: Geometry,
    interpolation: Interpolation,
    distortion: Distortion,
    fill_rgb: tuple[int, int, int],
) -> Image | FloatImage:
    """Make the output image.

    An output pixel shows the image if its centre lies in it, and the fill colour otherwise.

    Args:
        pixels: the decoded image.
        geometry: what is shown.
        interpolation: how it is resized.
        distortion: change of colours; the fill colour is not changed.
        fill_rgb: what lies around the image.

    Returns:
        ``[H, W, 3]`` uint8, or float32 where the distortion is ``unlimited``; contiguous.
    """
    height, width = geometry.out_hw
    x, y = (_visible(geometry, axis, pixels) for axis in (0, 1))
    if x.filled < 1 or y.filled < 1:
        empty: Image = np.full((height, width, 3), fill_rgb, dtype=np.uint8)
        return empty.astype(np.float32) if distortion.arithmetic == "unlimited" else empty
    crop = pixels.image[y.start : y.stop, x.start : x.stop]
    image: Any = distort(_resize(crop, x.factor, y.factor, _FLAGS[interpolation])[: y.filled, : x.filled], distortion)
    below, right = height - y.before - image.shape[0], width - x.before - image.shape[1]
    if x.before or y.before or below or right:
        borders = (y.before, below, x.before, right)
        image = cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=fill_rgb)
    if geometry.mirror or geometry.flip:
        image = cv2.flip(image, -1 if geometry.mirror and geometry.flip else int(geometry.mirror))
    return np.ascontiguousarray(image)


class _Span(NamedTuple):
    """One axis of the visible part: pixels ``start:stop`` of the decoded image, resized by ``factor``, fill ``filled``
    output pixels after ``before`` filled ones.
    """

    start: int
    stop: int
    factor: float
    before: int
    filled: int


def _visible(geometry: Geometry, axis: int, pixels: Pixels) -> _Span:
    origin, step, reduction = geometry.origin_xy[axis], geometry.step_xy[axis], pixels.reduction
    begin, before = max(origin, 0.0), round(max(-origin, 0.0) / step)
    # Exactly half a pixel does not count, whichever way the division rounds: OpenCV makes no image of 0 pixels.
    visible = round((pixels.size_hw[1 - axis] - begin) / step - TINY)
    filled = min(geometry.out_hw[1 - axis] - before, visible)
    stop = min(math.ceil((begin + filled * step) / reduction - TINY), pixels.image.shape[1 - axis])
    return _Span(round(begin / reduction), stop, reduction / step, before, filled)


def _resize(image: Image, factor_x: float, factor_y: float, flag: int) -> Image:
    """Resize by exact factors: given a size instead, OpenCV would stretch to whole pixels."""
    if flag in _QUICKER_IN_FLOAT:
        size_hw = round(image.shape[0] * factor_y), round(image.shape[1] * factor_x)
        if has_kernel() and size_hw != image.shape[:2]:  # OpenCV copies images that keep their size
            return filter_image(image, *_filters(image.shape[:2], factor_x, factor_y, flag))
        exact = cv2.resize(image.astype(np.float32), None, fx=factor_x, fy=factor_y, interpolation=flag)
        return to_uint8(exact)
    resized: Image = cv2.resize(image, None, fx=factor_x, fy=factor_y, interpolation=flag)
    return resized


def _filters(size_hw: tuple[int, ...], factor_x: float, factor_y: float, flag: int) -> tuple[Filter, Filter]:
    """What an output row and column take of the image."""
    axes = zip(size_hw, (factor_y, factor_x), strict=True)
    if flag == cv2.INTER_LANCZOS4:
        down, across = (lanczos_filter(size, factor) for size, factor in axes)
    else:
        shrinks = factor_x <= 1 and factor_y <= 1
        down, across = (area_filter(size, factor, shrinks) for size, factor in axes)
    return down, across
