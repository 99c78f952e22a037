"""BMP files whose pixels are numbers of 16 or 32 bits, with a mask for each colour: Pillow knows only some."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BITFIELDS, _ALPHA_BITFIELDS = 3, 6
_HEADER_WITH_ALPHA = 56


class MaskedPixels(NamedTuple):
    """Pixels as stored, top row first.

    Attributes:
        numbers: ``[H, W]`` uint16 or uint32.
        colours: masks of red, green and blue.
        alpha: mask of the transparency, 0 without.
    """

    numbers: NDArray[np.unsignedinteger]
    colours: tuple[int, int, int]
    alpha: int

    def unpack(self, rows: slice) -> NDArray[np.uint8]:
        """RGB, or RGB and alpha, of some rows: ``[rows, W, 3 or 4]``, scaled so that the whole mask is 255."""
        part = self.numbers[rows]
        masks = (*self.colours, self.alpha) if self.alpha else self.colours
        return np.stack([_scale(part, mask) for mask in masks], axis=-1)


def masked_pixels(data: bytes) -> MaskedPixels | None:
    """Pixels of a BMP with masks; ``None`` for the other kinds.

    Raises:
        struct.error: the file ends inside its header.
        ValueError: it ends inside its pixels.
    """
    start, header_size, width, height, _, bits, kind = struct.unpack_from("<IIiiHHI", data, 10)
    if header_size < 40 or kind not in (_BITFIELDS, _ALPHA_BITFIELDS) or bits not in (16, 32):
        return None
    red, green, blue, alpha = (mask & (1 << bits) - 1 for mask in struct.unpack_from("<4I", data, 54))
    has_alpha = header_size >= _HEADER_WITH_ALPHA or kind == _ALPHA_BITFIELDS
    row_pixels = -(-width * bits // 32) * 32 // bits  # rows are filled up to 4 bytes
    count = row_pixels * abs(height)
    if start + count * bits // 8 > len(data):
        raise ValueError("is cut off: pixels are missing at its end: copy or download it again")
    numbers = np.frombuffer(data, f"<u{bits // 8}", count, start).reshape(abs(height), row_pixels)[:, :width]
    numbers = numbers if height < 0 else numbers[::-1]
    # Programs that write no transparency leave its bits 0, as in browsers.
    has_alpha = has_alpha and bool((numbers & numbers.dtype.type(alpha)).any())
    return MaskedPixels(numbers, (red, green, blue), alpha if has_alpha else 0)


def _scale(numbers: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.uint8]:
    if not mask:
        return np.zeros(numbers.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    white = mask >> shift
    values = ((numbers & numbers.dtype.type(mask)) >> numbers.dtype.type(shift)).astype(np.uint64)
    scaled: NDArray[np.uint8] = ((values * np.uint64(510) + np.uint64(white)) // np.uint64(2 * white)).astype(np.uint8)
    return scaled
