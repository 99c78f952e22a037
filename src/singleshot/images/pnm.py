"""Netpbm's formats: PBM, PGM, PPM (plain and raw) and PAM, white being whatever number the header says."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_GAP = rb"(?:\s|#[^\n]*\n)+"
_NUMBER = re.compile(_GAP + rb"(\d{1,9})(?=\s)")
_CUT = "but the file ends before: copy or download it again"
_HEADER_BYTES = 65536


class Pnm(NamedTuple):
    """What the header says.

    Attributes:
        size_hw: height and width.
        bands: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
        maxval: the number of white, 1 to 65535.
        kind: the digit after the P.
        start: offset of the first sample.
    """

    size_hw: tuple[int, int]
    bands: int
    maxval: int
    kind: int
    start: int

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample in a raw file."""
        return 2 if self.maxval > 255 else 1


def read_pnm_header(data: bytes) -> Pnm:
    """Read the header of a PNM or PAM file.

    Raises:
        IndexError: the bytes end inside it.
        ValueError: it is none.
    """
    head = data[:_HEADER_BYTES]
    pnm = _pam(head) if head.startswith(b"P7") else _pnm(head)
    if not 1 <= pnm.maxval <= 65535:
        raise ValueError(f"is damaged: its header says that white is {pnm.maxval}, not 1 to 65535")
    if not 1 <= pnm.bands <= 4:
        raise ValueError(f"is a PAM of {pnm.bands} bands: save it as gray, RGB or RGBA")
    return pnm


def decode_pnm(data: bytes) -> NDArray[np.uint8]:
    """All samples, ``[H, W, bands]``, scaled so that white is 255.

    Raises:
        ValueError: samples are missing or not numbers.
    """
    pnm = read_pnm_header(data)
    height, width = pnm.size_hw
    count = height * width * pnm.bands
    samples: NDArray[np.unsignedinteger[Any]]
    if pnm.kind == 1:
        samples = _plain_bits(data, pnm.start, count)
    elif pnm.kind == 4:
        row = (width + 7) // 8
        packed = _raw(data, pnm.start, height * row, np.dtype(np.uint8)).reshape(height, row)
        samples = 1 - np.unpackbits(packed, axis=1, count=width)
    elif pnm.kind in (2, 3):
        samples = _plain_numbers(data, pnm.start, count)
    else:
        samples = _raw(data, pnm.start, count, np.dtype(f">u{pnm.sample_bytes}"))
    return _scale(samples, pnm.maxval).reshape(height, width, pnm.bands)


def _scale(samples: NDArray[np.unsignedinteger[Any]], maxval: int) -> NDArray[np.uint8]:
    """Round ``255 * sample / maxval``; a sample over white is white."""
    if maxval == 255:
        return samples.astype(np.uint8)
    table = (np.arange(65536) * 510 + maxval) // (2 * maxval)
    scaled: NDArray[np.uint8] = table.clip(max=255).astype(np.uint8)[samples]
    return scaled


def _pnm(head: bytes) -> Pnm:
    numbers, at = [], 2
    kind = int(head[1:2])
    for _ in range(2 if kind in (1, 4) else 3):
        found = _NUMBER.match(head, at)
        if not found:
            raise (
                IndexError("is damaged: the PNM header ends early")
                if len(head) < 40
                else ValueError("is damaged: the PNM names no size")
            )
        numbers.append(int(found[1]))
        at = found.end()
    width, height, maxval = (*numbers, 1)[:3]
    return Pnm((height, width), 3 if kind in (3, 6) else 1, maxval, kind, at + 1)


def _pam(head: bytes) -> Pnm:
    end = head.find(b"\nENDHDR\n")
    if end < 0:
        raise ValueError("is damaged: the PAM header has no end")
    lines = [line.split(None, 1) for line in head[2:end].split(b"\n") if line.strip() and not line.startswith(b"#")]
    fields = {line[0]: line[-1].strip() for line in lines}
    try:
        width, height, depth, maxval = (int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    except (KeyError, ValueError):
        raise ValueError("is damaged: the PAM names no size") from None
    return Pnm((height, width), depth, maxval, 7, end + 8)


def _raw(data: bytes, start: int, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    if len(data) - start < count * dtype.itemsize:
        raise ValueError(f"is cut off: {count * dtype.itemsize:,} bytes of samples are promised, {_CUT}")
    return np.frombuffer(data, dtype, count, start)


def _plain_bits(data: bytes, start: int, count: int) -> NDArray[np.uint8]:
    """Digits need no space between them; 1 is black."""
    digits = np.frombuffer(_without_comments(data[start:]), np.uint8)
    digits = digits[(digits == ord("0")) | (digits == ord("1"))][:count]
    if len(digits) < count:
        raise ValueError(f"is cut off: {count:,} samples are promised, {_CUT}")
    bits: NDArray[np.uint8] = (ord("1") - digits).astype(np.uint8)
    return bits


def _plain_numbers(data: bytes, start: int, count: int) -> NDArray[np.uint16]:
    text = _without_comments(data[start:])
    if len(text) < 2 * count - 1:
        raise ValueError(f"is cut off: {count:,} samples are promised, {_CUT}")
    if re.search(rb"[^\d\s]", text):
        raise ValueError("is damaged: its samples are not whole numbers")
    numbers = np.fromstring(text, np.uint16, sep=" ")
    if len(numbers) < count:
        raise ValueError(f"is cut off: {count:,} samples are promised, {_CUT}")
    return numbers[:count]


def _without_comments(text: bytes) -> bytes:
    return re.sub(rb"#[^\n]*", b"", text) if b"#" in text else text
