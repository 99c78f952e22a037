"""What the first bytes of an image file say: format, size, orientation. Nothing is decoded, nothing large is allocated.

Readers take the file's bytes, or only the first part of them, and stop at what they need. They never trust a length:
every read is bounded by the bytes at hand (`IndexError` / `struct.error` mean "not enough bytes").
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from singleshot.images.pnm import read_pnm_header
from singleshot.images.tiff import HEIGHT, ORIENTATION, WIDTH, first_page, photo_page


class Header(NamedTuple):
    """What a file's header says about its image.

    Attributes:
        format: name for messages.
        size_hw: stored size, before the orientation is applied.
        orientation: EXIF orientation, 1 (upright) to 8.
        plain: a JPEG or PNG whose conversion to RGB is the decoder's own and loses nothing: no transparency, no CMYK.
        pixels_at: offset where compressed pixels begin (JPEG; 0 elsewhere).
        pixel_bytes: memory that decoding takes for each pixel, the 3 bytes of the result included.
    """

    format: str
    size_hw: tuple[int, int]
    orientation: int = 1
    plain: bool = False
    pixels_at: int = 0
    pixel_bytes: int = 7

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


LATE_BYTES = 65536
"""How far from its end a PNG is searched for an orientation that follows its pixels."""


def turned_late(header: Header, tail: bytes) -> Header:
    """The header with the orientation that a PNG names after its pixels, where ImageMagick writes it.

    Args:
        header: from `read_header` of the file's beginning.
        tail: the file's last `LATE_BYTES`.
    """
    at = tail.rfind(b"eXIf")
    if header.format != "PNG" or header.orientation != 1 or at < 4:
        return header
    end = at + 4 + int.from_bytes(tail[at - 4 : at], "big")
    if tail[end : end + 4] != zlib.crc32(tail[at:end]).to_bytes(4, "big"):  # compressed pixels that look like it
        return header
    return header._replace(orientation=_exif_orientation(tail[at + 4 : end]))


def is_cut_off(data: bytes, header: Header) -> bool:
    """Whether the end of a whole file is missing, where that is cheap to know (decoders may fill with gray)."""
    match header.format:
        case "JPEG" | "JPEG 2000":
            return data.rfind(_END_OF_IMAGE, header.pixels_at) < 0
        case "PNG":
            return _png_is_cut_off(data, header)
        case "WebP":
            return len(data) < int.from_bytes(data[4:8], "little") + 8
        case "BMP":
            return len(data) < int.from_bytes(data[2:6], "little")
        case "TIFF":
            return photo_page(data).is_cut_off
    return False


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end (length and checksum included) of each chunk of a PNG, IEND last.

    Raises:
        IndexError, struct.error: the file ends inside a chunk, or before IEND.
    """
    kind, at = b"", len(_PNG)
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise IndexError(f"the chunk {kind!r} claims {length:,} bytes")
        yield kind, at, end
        at = end


# A match of deflate, 258 bytes at most, takes two bits at least.
_MAX_DEFLATE_RATIO = 258 * 4 + 8
_PNG_BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _png_is_cut_off(data: bytes, header: Header) -> bool:
    try:
        end = [end for _, _, end in png_chunks(data)][-1]
    except (IndexError, struct.error):
        return True
    height, width = header.size_hw
    row_bytes = (width * data[24] * _PNG_BANDS.get(data[25], 1) + 7) // 8
    return height * row_bytes > _MAX_DEFLATE_RATIO * end


# Markers without a length: TEM, RST0..7, SOI; start-of-frame markers are C0..CF without DHT, JPG, DAC.
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN = 0xDA
_BETWEEN_SCANS = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})
_NEXT_SEGMENT = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # not a stuffed 0, not a restart
_PNG = b"\x89PNG\r\n\x1a\n"
_END_OF_IMAGE = b"\xff\xd9"


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and offset of each segment of a JPEG, those between scans included; ends at the end marker.

    Raises:
        IndexError, struct.error: the bytes end before.
    """
    at = 2
    while True:
        while data[at] != 0xFF:  # decoders skip stray bytes between segments
            at += 1
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _BARE:
            continue
        yield marker, at
        if marker == 0xD9:
            return
        at += struct.unpack_from(">H", data, at)[0]
        if marker == _SCAN:
            found = _NEXT_SEGMENT.search(data, at)
            if not found:
                raise IndexError("the JPEG has no end marker")
            at = found.start()


def _jpeg(data: bytes) -> Header:
    size, orientation, bands, progressive = (0, 0), 1, 3, False
    for marker, at in jpeg_segments(data):
        if marker == _SCAN:
            # Coefficients of a whole progressive picture are kept, two bytes each.
            pixel_bytes = 3 + 2 * bands * progressive + bands * (bands == 4)
            return Header("JPEG", size, orientation, bands in (1, 3), at, pixel_bytes)
        if marker in _FRAMES:
            depth, height, width, bands = struct.unpack_from(">BHHB", data, at + 2)
            if depth != 8:
                raise ValueError(f"is a JPEG of {depth} bits: save it with 8 bits per channel")
            size, progressive = (height, width), marker in _PROGRESSIVE
        elif marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\x00\x00":
            (length,) = struct.unpack_from(">H", data, at)
            orientation = _exif_orientation(data[at + 8 : at + length])
    raise ValueError("is damaged: the JPEG ends before its image")


def holds_every_scan(data: bytes) -> bool:
    """Whether the scans of a JPEG without end marker have told every bit of every coefficient (ITU-T T.81, annex G)."""
    missing: dict[int, set[int]] = {}
    try:
        for marker, at in jpeg_segments(data):
            if marker in _FRAMES:
                ids = data[at + 8 : at + 8 + 3 * data[at + 7] : 3]
                missing = {band: set(range(64)) for band in ids}
            elif marker == _SCAN:
                count = data[at + 2]
                first, last, bits = data[at + 3 + 2 * count : at + 6 + 2 * count]
                for band in data[at + 3 : at + 3 + 2 * count : 2] if bits & 15 == 0 else b"":
                    missing[band] -= set(range(first, last + 1))
            elif marker not in _BETWEEN_SCANS:
                break  # something else follows, without an end marker before it
    except (IndexError, KeyError, ValueError, struct.error):
        pass
    return bool(missing) and not any(missing.values())


def _png(data: bytes) -> Header:
    if data[8:16] != b"\x00\x00\x00\rIHDR":
        raise ValueError("is damaged: the PNG does not begin with IHDR")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if depth not in (1, 2, 4, 8, 16) or colour not in _PNG_BANDS:
        raise ValueError(f"is damaged: a PNG of {depth} bits and colours of type {colour}")
    orientation, plain, keyed, at = 1, depth <= 8 and colour not in (4, 6), False, 33
    while data[at + 4 : at + 8] not in (b"IDAT", b"IEND"):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        keyed |= kind == b"tRNS"
        plain &= not keyed and kind != b"acTL"
        if kind == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        at += 12 + length
    pixel_bytes = 3 if plain else 7 if not keyed or depth < 16 else 16
    header = Header("PNG", (height, width), orientation, plain, pixel_bytes=pixel_bytes)
    return turned_late(header, data[-LATE_BYTES:])


def _gif(data: bytes) -> Header:
    """The canvas, or the first frame where that is larger (as browsers and Pillow show it)."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while data[at] != 0x2C:  # the first frame
        if data[at] != 0x21:
            raise ValueError("is damaged: the GIF has no frame")
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, at + 1)
    return Header("GIF", (max(height, top + frame_height), max(width, left + frame_width)))


def _webp(data: bytes) -> Header:
    # Pillow's decoder of animations, which reads all of them, keeps several pictures of four bands.
    kind, pixel_bytes = data[12:16], 23
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", (height & 0x3FFF, width & 0x3FFF), pixel_bytes=pixel_bytes)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1), pixel_bytes=pixel_bytes)
    if kind != b"VP8X":
        raise ValueError("is damaged: the WebP has no image")
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    orientation = _webp_orientation(data) if data[20] & 0x08 else 1
    return Header("WebP", (height, width), orientation, pixel_bytes=pixel_bytes)


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
    page = photo_page(data)
    if not {WIDTH, HEIGHT} <= page.entries.keys():
        raise ValueError("is damaged: the TIFF names no size")
    orientation = _known_orientation(page.value(ORIENTATION, 1))
    return Header("TIFF", page.size_hw, orientation, pixel_bytes=3 + max(4, page.sample_bytes))


def _jpeg2000(data: bytes) -> Header:
    at = data.find(b"\xff\x4f\xff\x51")  # what the decoder obeys, inside a JP2 file, too
    if at < 0:
        raise IndexError("no codestream among the first bytes")
    x1, y1, x0, y0 = struct.unpack_from(">IIII", data, at + 8)
    (bands,) = struct.unpack_from(">H", data, at + 40)
    return Header("JPEG 2000", (y1 - y0, x1 - x0), pixel_bytes=7 + 8 * bands)


def _avif(data: bytes) -> Header:
    """Its boxes are libavif's business: size and turns belong to items that refer to each other."""
    from PIL.AvifImagePlugin import AvifImageFile

    try:
        with AvifImageFile(io.BytesIO(data)) as image:
            size, orientation = image.size, image.getexif().get(ORIENTATION, 1)
    except Exception as error:  # libavif does not say whether bytes are missing or wrong
        raise IndexError(f"the AVIF cannot be opened: {error}") from None
    return Header("AVIF", (size[1], size[0]), _known_orientation(orientation), pixel_bytes=19)


def _pnm(data: bytes) -> Header:
    pnm = read_pnm_header(data)
    return Header("PNM", pnm.size_hw, pixel_bytes=3 + pnm.bands * (1 + max(pnm.sample_bytes, 2 * (pnm.kind < 4))))


def _exif_orientation(exif: bytes) -> int:
    """Orientation of an EXIF block; a damaged block means upright, as in viewers."""
    if exif[:2] not in (b"II", b"MM"):
        return 1
    try:
        return _known_orientation(first_page(exif).value(ORIENTATION, 1))
    except (struct.error, IndexError, ValueError):
        return 1


def _known_orientation(value: int) -> int:
    return value if 1 <= value <= 8 else 1


_READERS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Header]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(re.escape(_PNG)), _png),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"BM"), _bmp),
    (re.compile(rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]"), _tiff),
    (re.compile(rb"\x00\x00\x00\x0cjP  \r\n|\xff\x4f\xff\x51"), _jpeg2000),
    (re.compile(rb"\x00\x00..ftyp(?:avi[fs]|mif1.{4,60}?avi[fs])", re.DOTALL), _avif),
    (re.compile(rb"P[1-7][\s#]"), _pnm),
)
