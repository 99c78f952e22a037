"""Image files written by hand, where no library writes the kind that people have."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def pack(samples: np.ndarray, depth: int, order: str = ">") -> np.ndarray:
    """``[H, W, S]`` to the bytes of each row, ``[H, N]``."""
    rows = samples.reshape(len(samples), -1)
    if depth >= 8:
        return rows.astype(f"{order}u{depth // 8}").view(np.uint8).reshape(len(rows), -1)
    bits = (rows[..., None].astype(np.uint8) >> np.arange(depth - 1, -1, -1, dtype=np.uint8)) & 1
    return np.packbits(bits.reshape(len(rows), -1), axis=1)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: np.ndarray, depth: int, colour: int, *, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """PNG of ``[H, W, S]``; ``extra`` chunks come before the pixels."""
    parts = [samples[y::down, x::right] for y, x, down, right in PASSES] if interlaced else [samples]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in pack(part, depth))
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pack_bits(data: bytes) -> bytes:
    """The compression PackBits, by literal runs."""
    runs = [data[at : at + 128] for at in range(0, len(data), 128)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def differences(samples: np.ndarray) -> np.ndarray:
    """Predictor 2 of TIFF."""
    return np.concatenate([samples[:, :1], np.diff(samples, axis=1)], axis=1)


@dataclass(frozen=True)
class Page:
    """A page of a TIFF: samples ``[H, W, S]`` and how they are laid down; ``tags`` are set besides, or instead."""

    samples: np.ndarray
    photometric: int
    depth: int = 8
    planar: bool = False
    tile: int = 0
    strip_rows: int = 7
    compression: int = 1
    predictor: int = 1
    extra_bands: tuple[int, ...] | None = None
    tags: dict[int, list[int]] = field(default_factory=dict)


def tiff(*pages: Page, order: str = "<", big: bool = False) -> bytes:
    out = bytearray(b"II" if order == "<" else b"MM")
    out += struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 0) if big else (42, 0)))
    link = 8 if big else 4
    for page in pages:
        tags = _tags(out, page, order)
        entries = [_entry(out, tag, values, order, big) for tag, values in sorted(tags.items())]
        out += bytes(-len(out) % 8)
        struct.pack_into(order + ("Q" if big else "I"), out, link, len(out))
        out += struct.pack(order + ("Q" if big else "H"), len(entries)) + b"".join(entries)
        link = len(out)
        out += bytes(8 if big else 4)
    return bytes(out)


def _tags(out: bytearray, page: Page, order: str) -> dict[int, list[int]]:
    height, width, bands = page.samples.shape
    planes = [page.samples[..., band, None] for band in range(bands)] if page.planar else [page.samples]
    squeeze = {8: zlib.compress, 32773: pack_bits}.get(page.compression, bytes)
    offsets, sizes = [], []
    for part in (part for plane in planes for part in _parts(plane, page.tile, page.strip_rows)):
        data = squeeze(pack(differences(part) if page.predictor == 2 else part, page.depth, order).tobytes())
        offsets.append(len(out))
        sizes.append(len(data))
        out += data
    tags = {256: [width], 257: [height], 258: [page.depth] * bands, 259: [page.compression], 262: [page.photometric]}
    tags |= {277: [bands], 284: [2 if page.planar else 1]} | ({317: [2]} if page.predictor == 2 else {})
    if page.tile:
        tags |= {322: [page.tile], 323: [page.tile], 324: offsets, 325: sizes}
    else:
        tags |= {273: offsets, 278: [page.strip_rows], 279: sizes}
    tags |= {} if page.extra_bands is None else {338: list(page.extra_bands)}
    return tags | page.tags


def _parts(plane: np.ndarray, tile: int, strip_rows: int) -> list[np.ndarray]:
    height, width = plane.shape[:2]
    if not tile:
        return [plane[top : top + strip_rows] for top in range(0, height, strip_rows)]
    padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
    tops, lefts = range(0, height, tile), range(0, width, tile)
    return [padded[top : top + tile, left : left + tile] for top in tops for left in lefts]


def _entry(out: bytearray, tag: int, values: list[int], order: str, big: bool) -> bytes:
    kind, code = (3, "H") if max(values) < 65536 and tag not in (273, 279, 324, 325) else (4, "I")
    data = struct.pack(f"{order}{len(values)}{code}", *values)
    room = 8 if big else 4
    if len(data) > room:
        out += data
        data = struct.pack(order + ("Q" if big else "I"), len(out) - len(data))
    return struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, len(values)) + data.ljust(room, b"\0")


def bmp(pixels: np.ndarray, bits: int, masks: Sequence[int] = (), *, version: int = 4, top_down: bool = False) -> bytes:
    """BMP of packed pixels, ``[H, W]`` of 16 or 32 bits; ``masks`` for red, green, blue (and alpha)."""
    height, width = pixels.shape
    rows = pixels.astype(f"<u{bits // 8}").view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    data = (rows if top_down else rows[::-1]).tobytes()
    size = {3: 40, 4: 108, 5: 124}[version]
    numbers = (size, width, -height if top_down else height, 1, bits, 3 if masks else 0, len(data), 0, 0, 0, 0)
    header = struct.pack("<IiiHHIIiiII", *numbers) + struct.pack(f"<{len(masks)}I", *masks)
    header = header.ljust(size, b"\0")
    start = 14 + len(header)
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + header + data


def netpbm(samples: np.ndarray, maxval: int, kind: int, comment: str = "") -> bytes:
    """PNM of kind 1 to 6, or PAM (7), of ``[H, W, S]``."""
    height, width, bands = samples.shape
    if kind == 7:
        head = f"P7\n# {comment}\nWIDTH {width}\nHEIGHT {height}\nDEPTH {bands}\nMAXVAL {maxval}\nTUPLTYPE X\nENDHDR\n"
    else:
        white = "" if kind in (1, 4) else f"{maxval}\n"
        head = f"P{kind}\n{comment and '# ' + comment + chr(10)}{width} {height}\n{white}"
    if kind == 4:
        return head.encode() + pack(1 - samples, 1).tobytes()
    if kind <= 3:
        shown = 1 - samples if kind == 1 else samples
        return head.encode() + "\n".join(" ".join(map(str, row.ravel())) for row in shown).encode()
    return head.encode() + pack(samples, 16 if maxval > 255 else 8).tobytes()
