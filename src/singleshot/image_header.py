"""What the first bytes of an image file say: format, size, orientation. Nothing is decoded, nothing large is allocated.

Readers take the file's bytes, or only the first part of them, and stop at what they need. They never trust a length:
every read is bounded by the bytes at hand (`IndexError` / `struct.error` mean "not enough bytes").
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple


class Header(NamedTuple):
    """What a file's header says about its image.

    Attributes:
        format: name for messages.
        size_hw: stored size, before the orientation is applied.
        orientation: EXIF orientation, 1 (upright) to 8.
        plain: 8 bits a channel and no transparency, so that a decoder's conversion to RGB loses nothing.
        pixels_at: offset where compressed pixels begin (JPEG; 0 elsewhere).
    """

    format: str
    size_hw: tuple[int, int]
    orientation: int = 1
    plain: bool = True
    pixels_at: int = 0

    @property
    def upright_size_hw(self) -> tuple[int, int]:
        """Size after the orientation is applied."""
        height, width = self.size_hw
        return (width, height) if self.orientation >= 5 else (height, width)


def read_header(data: bytes) -> Header | None:
    """Read the header of a JPEG, PNG, GIF, WebP, BMP, TIFF, JPEG 2000, AVIF or PNM file.

    Args:
        data: the file, or its first bytes.

    Returns:
        ``None`` when the format is another one.

    Raises:
        IndexError, struct.error: the bytes end inside the header.
        ValueError: the header contradicts itself.
    """
    for pattern, reader in _READERS:
        if pattern.match(data):
            return reader(data)
    return None


def is_cut_off(data: bytes, header: Header) -> bool:
    """Whether the end of a whole file is missing, where that is cheap to know (decoders may fill with gray)."""
    match header.format:
        case "JPEG":
            return data.rfind(b"\xff\xd9", header.pixels_at) < 0
        case "PNG":
            return data.rfind(b"IEND", len(_PNG)) < 0
        case "WebP":
            return len(data) < int.from_bytes(data[4:8], "little") + 8
        case "BMP":
            return len(data) < int.from_bytes(data[2:6], "little")
    return False


# Markers without a length: TEM, RST0..7, SOI; start-of-frame markers are C0..CF without DHT, JPG, DAC.
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNG = b"\x89PNG\r\n\x1a\n"


def _jpeg(data: bytes) -> Header:
    at, size, orientation = 2, (0, 0), 1
    while True:
        while data[at] != 0xFF:  # decoders skip stray bytes between segments
            at += 1
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _BARE:
            continue
        if marker == 0xDA:
            return Header("JPEG", size, orientation, pixels_at=at)
        if marker == 0xD9:
            raise ValueError("the JPEG ends before its image")
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _FRAMES:
            size = struct.unpack_from(">HH", data, at + 3)
        elif marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\x00\x00":
            orientation = _exif_orientation(data[at + 8 : at + length])
        at += length


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise ValueError("the PNG does not begin with IHDR")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    orientation, transparent, at = 1, colour in (4, 6), 33
    while data[at + 4 : at + 8] not in (b"IDAT", b"IEND"):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        transparent |= kind == b"tRNS"
        if kind == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        at += 12 + length
    return Header("PNG", (height, width), orientation, plain=depth <= 8 and not transparent)


def _gif(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    return Header("GIF", (height, width), plain=False)


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", (height & 0x3FFF, width & 0x3FFF))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1), plain=not bits >> 28 & 1)
    if kind != b"VP8X":
        raise ValueError("the WebP has no image")
    flags = data[20]
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    orientation = _webp_orientation(data) if flags & 0x08 else 1
    return Header("WebP", (height, width), orientation, plain=not flags & 0x10)


def _webp_orientation(data: bytes) -> int:
    at = 12
    while data[at : at + 4] != b"EXIF":
        (length,) = struct.unpack_from("<I", data, at + 4)
        at += 8 + length + length % 2
    (length,) = struct.unpack_from("<I", data, at + 4)
    return _exif_orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\x00\x00"))


def _bmp(data: bytes) -> Header:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Header("BMP", (abs(height), width))


def _tiff(data: bytes) -> Header:
    tags = _ifd(data, {256, 257, 258, 262, 274, 338})
    if 256 not in tags or 257 not in tags:
        raise ValueError("the TIFF names no size")
    plain = tags.get(258, 1) <= 8 and 338 not in tags
    return Header("TIFF", (tags[257], tags[256]), _known_orientation(tags.get(274, 1)), plain)


def _jpeg2000(data: bytes) -> Header:
    at = data.find(b"ihdr", 0, 4096)
    if at >= 0:
        height, width = struct.unpack_from(">II", data, at + 4)
        return Header("JPEG 2000", (height, width))
    x1, y1, x0, y0 = struct.unpack_from(">IIII", data, 8)  # a bare codestream: SIZ
    return Header("JPEG 2000", (y1 - y0, x1 - x0))


def _avif(data: bytes) -> Header:
    # A file may hold thumbnails and tiles, each with its size; the largest is the image.
    sizes = [struct.unpack_from(">II", data, found.end() + 4) for found in re.finditer(b"ispe", data[:65536])]
    if not sizes:
        raise IndexError("no size among the first bytes")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Header("AVIF", (height, width))


def _pnm(data: bytes) -> Header:
    found = re.match(rb"P[1-6](?:\s+#[^\n]*\n|\s)+(\d{1,9})(?:\s+#[^\n]*\n|\s)+(\d{1,9})\s", data[:4096])
    if not found:
        raise ValueError("the PNM names no size")
    return Header("PNM", (int(found[2]), int(found[1])))


def _ifd(data: bytes, wanted: set[int]) -> dict[int, int]:
    """First value of the wanted short and long tags of a TIFF structure's first directory."""
    order = ">" if data[:2] == b"MM" else "<"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI", data, entry)
        if tag in wanted and kind in (3, 4):
            code, size = ("H", 2) if kind == 3 else ("I", 4)
            where = entry + 8
            if size * values > 4:
                (where,) = struct.unpack_from(order + "I", data, where)
            (tags[tag],) = struct.unpack_from(order + code, data, where)
    return tags


def _exif_orientation(exif: bytes) -> int:
    """Orientation of an EXIF block; a damaged block means upright, as in viewers."""
    if exif[:2] not in (b"II", b"MM"):
        return 1
    try:
        return _known_orientation(_ifd(exif, {274}).get(274, 1))
    except (struct.error, IndexError):
        return 1


def _known_orientation(value: int) -> int:
    return value if 1 <= value <= 8 else 1


_READERS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Header]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(re.escape(_PNG)), _png),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"BM"), _bmp),
    (re.compile(rb"II\x2a\x00|MM\x00\x2a"), _tiff),
    (re.compile(rb"\x00\x00\x00\x0cjP  \r\n|\xff\x4f\xff\x51"), _jpeg2000),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), _avif),
    (re.compile(rb"P[1-6]\s"), _pnm),
)
