"""TIFF files: find the photo among the pages, and get its samples as they are stored, whatever their layout.

Pillow's libtiff undoes the compression; what the samples mean (planes, bands, depth, transparency, white as zero) is
read from the tags here, because decoders guess it differently: a fourth band is not always transparency.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Names of tags (TIFF 6.0, section 8, and the supplements).
SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, BANDS, STRIP_ROWS, STRIP_BYTES, PLANAR, PREDICTOR = 273, 274, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, SUB_PAGES = 322, 323, 324, 325, 330
INK_SET, EXTRA_BANDS, SAMPLE_FORMAT, YCBCR_SUBSAMPLING, CFA_PATTERN, DNG_VERSION = 332, 338, 339, 530, 33422, 50706
COLOUR_MAP = 320

_COPIED = frozenset(  # all that a decoder needs; texts, profiles and other pages are not its business
    {
        WIDTH,
        HEIGHT,
        BITS,
        COMPRESSION,
        PHOTOMETRIC,
        266,
        STRIP_OFFSETS,
        BANDS,
        STRIP_ROWS,
        STRIP_BYTES,
        PLANAR,
        292,
        293,
    }
    | {
        PREDICTOR,
        COLOUR_MAP,
        TILE_WIDTH,
        TILE_HEIGHT,
        TILE_OFFSETS,
        TILE_BYTES,
        INK_SET,
        EXTRA_BANDS,
        SAMPLE_FORMAT,
        347,
    }
    | {*range(512, 522), 529, YCBCR_SUBSAMPLING, 531, 532}
)
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_VALUES = 2**20
_MAX_PAGES = 64
_MIN_TILE_PIXELS = 2**24

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
CMYK_BANDS = 4
_COLOUR_BANDS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, CMYK: CMYK_BANDS}
_RAW_PHOTOMETRICS = (32803, 34892)
_BYTE_COMPRESSIONS = (1, 5, 8, 32773, 32946, 34925, 50000)
"""Compressions of bytes, whatever they mean: none, LZW, deflate, PackBits, LZMA, Zstandard."""

_OLD_JPEG = 6
"""A compression whose strips say nothing dependable of their length."""

_CANON = b"CR"
CAMERA_RAW = "is a camera's raw file: develop it to JPEG or PNG"


class _Layout(NamedTuple):
    """Classic TIFF or BigTIFF: how the number of entries, an entry and an offset are written."""

    number: str
    entry: str
    offset: str
    first_at: int


_CLASSIC = _Layout("H", "HHI4s", "I", 4)
_BIG = _Layout("Q", "HHQ8s", "Q", 8)


def _unpack(form: str, data: bytes, at: int) -> tuple[Any, ...]:
    if at > len(data):  # BigTIFF's offsets may be larger than struct's
        raise struct.error(f"it has no byte {at:,}")
    return struct.unpack_from(form, data, at)


class Page:
    """One directory of a TIFF structure (EXIF blocks are one, too)."""

    def __init__(self, data: bytes, at: int, order: str, layout: _Layout) -> None:
        self.data, self.order, self.layout = data, order, layout
        (count,) = _unpack(order + layout.number, data, at)
        at += struct.calcsize("=" + layout.number)
        size = struct.calcsize("=" + layout.entry)
        if count > 65535:
            raise ValueError(f"is damaged: a TIFF directory of {count:,} tags")
        self.entries: dict[int, tuple[int, int, int]] = {}
        for entry in range(at, at + count * size, size):
            tag, kind, values, _ = _unpack(order + layout.entry, data, entry)
            self.entries.setdefault(tag, (kind, values, entry))
        self._end = at + count * size

    @property
    def next_at(self) -> int:
        """Offset of the next page, 0 after the last."""
        return int(_unpack(self.order + self.layout.offset, self.data, self._end)[0])

    def values(self, tag: int) -> tuple[int, ...]:
        """The whole numbers of a tag, none if it is absent or of another type."""
        kind, count, entry = self.entries.get(tag, (0, 0, 0))
        if kind not in _INTEGERS or not count:
            return ()
        if count > _MAX_VALUES:
            raise ValueError(f"is damaged: TIFF tag {tag} claims {count:,} values")
        room = struct.calcsize("=" + self.layout.offset)
        where = entry + 4 + room
        if struct.calcsize("=" + _INTEGERS[kind]) * count > room:
            (where,) = _unpack(self.order + self.layout.offset, self.data, where)
        return _unpack(f"{self.order}{count}{_INTEGERS[kind]}", self.data, where)

    def value(self, tag: int, default: int) -> int:
        """The first number of a tag."""
        return (self.values(tag) or (default,))[0]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Stored height and width."""
        return self.value(HEIGHT, 0), self.value(WIDTH, 0)

    @property
    def is_reduced(self) -> bool:
        """Whether it calls itself a smaller copy of another page, or a mask."""
        return bool(self.value(SUBFILE, 0) & 0b101) or self.value(OLD_SUBFILE, 1) == 2

    @property
    def is_cut_off(self) -> bool:
        """Whether the file ends before the pixels that the page promises: decoders take other bytes for them."""
        places, sizes = (STRIP_OFFSETS, STRIP_BYTES) if STRIP_OFFSETS in self.entries else (TILE_OFFSETS, TILE_BYTES)
        ends = (at + size for at, size in zip(self.values(places), self.values(sizes), strict=False))
        return max(ends, default=0) > len(self.data) and self.value(COMPRESSION, 1) != _OLD_JPEG

    @property
    def sample_bytes(self) -> int:
        """Bytes that the samples of a pixel take."""
        return max(1, self.value(BITS, 1) * self.value(BANDS, 1) // 8)


def first_page(data: bytes) -> Page:
    """First directory of a TIFF structure.

    Raises:
        struct.error: the bytes end inside it.
        ValueError: it contradicts itself.
    """
    order = ">" if data[:2] == b"MM" else "<"
    layout = _BIG if _unpack(order + "H", data, 2) == (43,) else _CLASSIC
    (at,) = _unpack(order + layout.offset, data, layout.first_at)
    return Page(data, at, order, layout)


def photo_page(data: bytes) -> Page:
    """The first page that is not marked as reduced copies.

    Raises:
        struct.error: the bytes end inside a directory.
        ValueError: a camera's raw file, or nothing but reduced copies.
    """
    if data[8:10] == _CANON:
        raise ValueError(CAMERA_RAW)
    page = first_page(data)
    if {DNG_VERSION, CFA_PATTERN} & page.entries.keys():
        raise ValueError(CAMERA_RAW)
    for _ in range(_MAX_PAGES):
        if page.value(PHOTOMETRIC, 0) in _RAW_PHOTOMETRICS or (page.is_reduced and SUB_PAGES in page.entries):
            raise ValueError(CAMERA_RAW)
        if not page.is_reduced:
            return page
        if not page.next_at:
            break
        page = Page(data, page.next_at, page.order, page.layout)
    raise ValueError("is a TIFF whose pages are all marked as reduced copies: save the photo itself")


def one_page(page: Page, changed: Mapping[int, Sequence[int]] | None = None) -> bytes:
    """The file with a directory of this page alone, some of its tags set anew (to nothing: left out)."""
    order, layout = page.order, page.layout
    data = bytearray(page.data)
    size = struct.calcsize("=" + layout.entry)
    entries = {tag: page.data[at : at + size] for tag, (_, _, at) in page.entries.items() if tag in _COPIED}
    for tag, values in (changed or {}).items():
        entries.pop(tag, None)
        if values:
            content = struct.pack(f"{order}{len(values)}I", *values)
            if len(content) > struct.calcsize("=" + layout.offset):
                where = struct.pack(order + layout.offset, len(data))
                data += content
                content = where
            entries[tag] = struct.pack(order + layout.entry, tag, 4, len(values), content)
    data += bytes(-len(data) % 8)
    struct.pack_into(order + layout.offset, data, layout.first_at, len(data))
    data += struct.pack(order + layout.number, len(entries)) + b"".join(entries[tag] for tag in sorted(entries))
    return bytes(data + struct.pack(order + layout.offset, 0))


def palette_of_bytes(page: Page) -> dict[int, Sequence[int]]:
    """The colour map of 16 bits in place of one whose writer took 255 for white (libtiff sees to it, too)."""
    values = page.values(COLOUR_MAP)
    if page.value(PHOTOMETRIC, BLACK_IS_ZERO) != PALETTE or max(values, default=256) > 255:
        return {}
    return {COLOUR_MAP: [257 * value for value in values]}


class Samples(NamedTuple):
    """What a page stores, a band of rows at a time.

    Attributes:
        colours: bands of colour: 1, 3 or 4 (CMYK).
        alpha: index of the transparency's band, if there is one.
        premultiplied: whether colours are stored multiplied by it.
        inverted: whether 0 is white.
        files: a TIFF for each plane, whose one band of bytes holds the samples as they are stored.
        band_count: of a plane.
        dtype: of a sample.
        predictor_columns: pixels after which the differences of a row begin again; 0 when there are none.
    """

    colours: int
    alpha: int | None
    premultiplied: bool
    inverted: bool
    files: tuple[bytes, ...]
    band_count: int
    dtype: np.dtype[Any]
    predictor_columns: int

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in a plane."""
        return self.band_count * self.dtype.itemsize

    def unpack(self, stored: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """From rows of bytes, ``[rows, bytes]`` a plane, to samples of 8 bits, ``[rows, W, bands]``."""
        planes = [self._undo_differences(rows.view(self.dtype)) for rows in stored]
        pixels = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)
        return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)

    def _undo_differences(self, rows: NDArray[Any]) -> NDArray[Any]:
        pixels = rows.reshape(len(rows), -1, self.band_count)
        if not self.predictor_columns:
            return pixels
        pixels = pixels.astype(self.dtype.newbyteorder("="))
        for left in range(0, pixels.shape[1], self.predictor_columns):
            part = pixels[:, left : left + self.predictor_columns]
            np.cumsum(part, axis=1, dtype=part.dtype, out=part)
        return pixels


def stored_samples(page: Page) -> Samples | None:
    """How to get a page's samples where they are whole bytes; ``None`` where the decoder has to know their meaning.

    A compression of bytes does not care what they mean: to it, a row of RGB pixels of 16 bits is as good as six times
    as many gray pixels of 8 bits.

    Raises:
        ValueError: nobody can tell what such a file shows; the message says how to save it.
    """
    bits, bands = page.values(BITS) or (1,), page.value(BANDS, 1)
    photometric, compression = page.value(PHOTOMETRIC, BLACK_IS_ZERO), page.value(COMPRESSION, 1)
    _check_kind(page, bits, bands, photometric)
    colours = _COLOUR_BANDS.get(photometric)
    if set(bits) not in ({8}, {16}) or colours is None or compression not in _BYTE_COMPRESSIONS:
        return None
    if bands < colours or (photometric == CMYK and page.value(INK_SET, 1) != 1):
        raise ValueError(f"is a TIFF of {bands} bands that are no known colours: save it as RGB")
    extras = page.values(EXTRA_BANDS)[: bands - colours]
    alpha = next((index for index, kind in enumerate(extras) if kind in (1, 2)), None)
    planes = bands if page.value(PLANAR, 1) == 2 else 1
    band_count = bands // planes
    width = page.value(TILE_WIDTH, 0) or page.size_hw[1]
    return Samples(
        colours,
        None if alpha is None else colours + alpha,
        alpha is not None and extras[alpha] == 1,
        photometric == WHITE_IS_ZERO,
        tuple(_as_bytes(page, plane, planes, band_count * bits[0] // 8) for plane in range(planes)),
        band_count,
        np.dtype(f"{page.order}u{bits[0] // 8}"),
        width if page.value(PREDICTOR, 1) == 2 else 0,
    )


def _check_kind(page: Page, bits: Sequence[int], bands: int, photometric: int) -> None:
    """Refuse what is not a picture of whole numbers in known colours."""
    kind = {2: "int", 3: "float", 5: "complex int", 6: "complex float"}.get(page.value(SAMPLE_FORMAT, 1), "uint")
    if kind != "uint" or max(bits) > 16:
        raise ValueError(f"its samples are {kind}{bits[0]}: save it with 8 or 16 bits per channel")
    if photometric not in (*_COLOUR_BANDS, PALETTE, YCBCR):
        names = {4: "a mask", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32844: "LogL", 32845: "LogLuv"}
        raise ValueError(f"its colours are {names.get(photometric, f'of kind {photometric}')}: save it as RGB")
    whole_bytes = set(bits) <= {8, 16} and len(set(bits)) == 1
    if not whole_bytes and (bands > 1 or bits[0] not in (1, 2, 4)):
        raise ValueError(f"its samples are of {', '.join(map(str, bits))} bits: save it with 8 bits per channel")
    if photometric == YCBCR and page.value(COMPRESSION, 1) == 1 and page.values(YCBCR_SUBSAMPLING) != (1, 1):
        raise ValueError("its colours are YCbCr without compression: save it as RGB")
    if page.value(PLANAR, 1) == 2 and bands > 1 and page.value(COMPRESSION, 1) not in _BYTE_COMPRESSIONS:
        raise ValueError("it holds each colour as a plane of its own: save it pixel by pixel")
    height, width = page.size_hw
    if page.value(TILE_WIDTH, 0) * page.value(TILE_HEIGHT, 0) > max(_MIN_TILE_PIXELS, 4 * height * width):
        raise ValueError("is damaged: its tiles are far larger than the picture")


def _as_bytes(page: Page, plane: int, planes: int, pixel_bytes: int) -> bytes:
    """A gray TIFF of 8 bits whose pixels are the stored bytes of one plane."""
    changed: dict[int, Sequence[int]] = {BITS: (8,), BANDS: (1,), PHOTOMETRIC: (1,), PLANAR: (1,), PREDICTOR: (1,)}
    changed |= dict.fromkeys((EXTRA_BANDS, SAMPLE_FORMAT, INK_SET), ())
    for tag in (WIDTH, TILE_WIDTH):
        if tag in page.entries:
            changed[tag] = (page.value(tag, 0) * pixel_bytes,)
    for tag in (STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES):
        values = page.values(tag)
        if planes > 1 and values:
            share = len(values) // planes
            changed[tag] = values[plane * share : (plane + 1) * share]
    return one_page(page, changed)
