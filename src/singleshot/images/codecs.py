"""From a picture's bytes to RGB uint8: OpenCV for plain JPEGs and PNGs, Pillow for all else, in bands of rows.

Plugins of Pillow are called by name: nothing in a file can choose another one (`PIL.Image.open` tries all), and the
limits that this process set for Pillow itself stay the user's own.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.images.bmp import MaskedPixels, masked_pixels
from singleshot.images.header import Header, holds_every_scan, png_chunks
from singleshot.images.pnm import decode_pnm
from singleshot.images.tiff import CMYK_BANDS, Samples, one_page, palette_of_bytes, photo_page, stored_samples

if TYPE_CHECKING:
    import PIL.Image as pillow
    import PIL.ImageFile as pillow_file
else:
    pillow = lazy_module("PIL.Image")
    pillow_file = lazy_module("PIL.ImageFile")

Bytes = NDArray[np.uint8]


_PLUGINS = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "WebP": ("WebPImagePlugin", "WebPImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"),
    "JPEG 2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
}
_OPAQUE = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"})
_TRANSPARENT = frozenset({"LA", "PA", "RGBA"})
_BAND_PIXELS = 2**20


def decode(data: bytes, header: Header) -> Bytes:
    """Decode a file as it is stored: not turned.

    Args:
        data: the file.
        header: what `read_header` says about it.

    Returns:
        RGB on white, ``[H, W, 3]`` uint8, contiguous.

    Raises:
        ValueError: it cannot be decoded, or nobody can tell what it shows; the message says why, not which file.
        MemoryError: there is not enough memory.
    """
    if header.plain:
        return _decode_plain(data, header)
    if header.format == "PNM":
        return _decode_pnm(data)
    if header.format == "TIFF":
        return _decode_tiff(data)
    if header.format == "BMP" and (masked := masked_pixels(data)):
        return _decode_masked(masked)
    if header.format == "PNG":
        return _decode_png(data, header.size_hw)
    return _from_pillow(open_pillow(data, header.format, header.size_hw))


def decode_without_end(data: bytes, header: Header) -> Bytes | None:
    """Decode a JPEG that has no end marker; ``None`` if pixels are missing.

    Decoders take the bits of missing pixels from whatever follows: two ends of different bytes give two pictures.

    Raises:
        ValueError: as `decode`.
    """
    if not holds_every_scan(data):
        return None
    whole = data.rstrip(b"\xff")  # half a marker
    first, second = (_from_pillow(open_pillow(whole + end, "JPEG", header.size_hw)) for end in _TWO_ENDS)
    return first if np.array_equal(first, second) else None


_TWO_ENDS = (b"\xff\xd9", bytes(range(254, 0, -1)) * 4 + b"\xff\xd9")


def open_pillow(data: bytes, kind: str, size_hw: tuple[int, int]) -> pillow_file.ImageFile:
    """Open and decode a file with Pillow's plugin for one format.

    Args:
        data: the file.
        kind: its format.
        size_hw: what its header says, checked against the caller's limits.

    Raises:
        ValueError: Pillow cannot, or finds another size.
        MemoryError: there is not enough memory.
    """
    module, name = _PLUGINS[kind]
    try:
        with _allowed(size_hw[0] * size_hw[1]):
            image: pillow_file.ImageFile = getattr(import_module(f"PIL.{module}"), name)(io.BytesIO(data))
            if image.size != size_hw[::-1]:
                raise ValueError(
                    f"its header says {size_hw[1]} x {size_hw[0]}, its data {image.width} x {image.height}"
                )
            image.load()
    except MemoryError:
        raise
    except Exception as error:  # plugins raise nearly every built-in error on damaged files
        raise ValueError(f"the {kind} cannot be decoded (damaged, or a rare kind: {error}): {_SAVE_AGAIN}") from None
    return image


@contextmanager
def _allowed(pixels: int) -> Iterator[None]:
    """Lift Pillow's limit for a picture that the caller's own limit allows; nothing is touched where it need not be."""
    import PIL.Image as pillow

    if pillow.MAX_IMAGE_PIXELS is None or pixels <= pillow.MAX_IMAGE_PIXELS:
        yield
        return
    with _LIMIT_LOCK:
        before, pillow.MAX_IMAGE_PIXELS = pillow.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            pillow.MAX_IMAGE_PIXELS = before


_LIMIT_LOCK = RLock()
_SAVE_AGAIN = "save it again as JPEG or PNG"


def _decode_plain(data: bytes, header: Header) -> Bytes:
    import cv2

    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels: Bytes | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from None
        raise ValueError(f"OpenCV cannot decode this {header.format}: {error.err}") from None
    if pixels is None:
        raise ValueError(f"the {header.format} cannot be decoded (damaged, or a rare kind): {_SAVE_AGAIN}")
    if pixels.shape != (*header.size_hw, 3):
        raise ValueError(
            f"the {header.format} is damaged: its header says {header.size_hw}, it holds {pixels.shape[:2]}"
        )
    return pixels


def _from_pillow(image: pillow_file.ImageFile, colour_key: tuple[int, ...] | None = None) -> Bytes:
    """What Pillow decoded, on white.

    Args:
        image: decoded.
        colour_key: the one gray value or colour that is transparent (PNG).
    """
    transparent = image.mode in _TRANSPARENT or "transparency" in image.info
    deep = image.mode.startswith("I;16")
    if not (deep or image.mode in _OPAQUE | _TRANSPARENT):
        raise ValueError(f"its pixels are of the kind {image.mode}: save it as RGB with 8 bits per channel")
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for rows in _bands(image.height, image.width):
        band = _crop(image, rows)
        if transparent:
            rgba = np.asarray(band.convert("RGBA"))
            rgb[rows] = _on_white(rgba[..., :3], rgba[..., 3:])
            continue
        stored = np.asarray(band)[..., None] if deep else np.asarray(band.convert("RGB"))
        rgb[rows] = stored >> 8 if deep else stored
        if colour_key:
            rgb[rows][(stored == colour_key).all(axis=-1)] = 255
    return rgb


def _bands(height: int, width: int) -> Iterator[slice]:
    """Some rows at a time: conversions of the whole would take several times the memory of the picture."""
    step = max(1, _BAND_PIXELS // width)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def _crop(image: pillow_file.ImageFile, rows: slice) -> pillow.Image:
    with _allowed(image.width * (rows.stop - rows.start)):
        return image.crop((0, rows.start, image.width, rows.stop))


def _on_white(colours: Bytes, alpha: Bytes, premultiplied: bool = False) -> Bytes:
    """``[..., 1 or 3]`` and ``[..., 1]``, rounded to the nearest."""
    if alpha.min() == 255:
        return colours
    clear = 255 - alpha
    if premultiplied:
        return np.minimum(colours, alpha) + clear
    light = colours * alpha.astype(np.uint16)
    light += clear.astype(np.uint16) * 255 + 128
    light += light >> 8  # with the line below: a division by 255
    light >>= 8
    return light.astype(np.uint8)


def _decode_pnm(data: bytes) -> Bytes:
    pixels = decode_pnm(data)
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    for rows in _bands(*pixels.shape[:2]):
        rgb[rows] = _without_alpha(pixels[rows])
    return rgb


def _decode_masked(masked: MaskedPixels) -> Bytes:
    rgb = np.empty((*masked.numbers.shape, 3), np.uint8)
    for rows in _bands(*masked.numbers.shape):
        rgb[rows] = _without_alpha(masked.unpack(rows))
    return rgb


def _without_alpha(band: Bytes) -> Bytes:
    """Gray, gray and alpha, RGB, or RGBA (``[..., 1 to 4]``) to gray or RGB on white."""
    colours = 1 if band.shape[-1] < 3 else 3
    return band if band.shape[-1] == colours else _on_white(band[..., :colours], band[..., colours:])


def _decode_png(data: bytes, size_hw: tuple[int, int]) -> Bytes:
    """Only what makes the picture goes to the decoder: no profiles, no texts, no later frames."""
    depth, colour = data[24], data[25]
    wanted = {b"IHDR", b"PLTE", b"IDAT", b"IEND"} | ({b"tRNS"} if colour == _PNG_PALETTE else set())
    chunks = list(png_chunks(data))
    plain = data[:8] + b"".join(data[at:end] for kind, at, end in chunks if kind in wanted)
    keys = [data[at + 8 : end - 4] for kind, at, end in chunks if kind == b"tRNS" and kind not in wanted]
    key = struct.unpack(f">{len(keys[0]) // 2}H", keys[0][: len(keys[0]) // 2 * 2]) if keys else None
    if key is None or len(key) != {_PNG_GRAY: 1, _PNG_RGB: 3}.get(colour):
        return _from_pillow(open_pillow(plain, "PNG", size_hw))
    if depth == 16 and colour == _PNG_RGB:
        return _decode_deep_keyed(plain, key)
    if depth < 8:
        key = (key[0] * 255 // (2**depth - 1),)
    return _from_pillow(open_pillow(plain, "PNG", size_hw), key)


_PNG_GRAY, _PNG_RGB, _PNG_PALETTE = 0, 2, 3


def _decode_deep_keyed(plain: bytes, key: tuple[int, ...]) -> Bytes:
    """RGB of 16 bits with a transparent colour: Pillow drops the lower bits, which tell it from its neighbours."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError(f"the PNG cannot be decoded (damaged): {_SAVE_AGAIN}")
    rgb = np.empty(pixels.shape, np.uint8)
    for rows in _bands(*pixels.shape[:2]):
        band = pixels[rows][..., ::-1]
        rgb[rows] = band >> 8
        rgb[rows][(band == key).all(axis=-1)] = 255
    return rgb


def _decode_tiff(data: bytes) -> Bytes:
    page = photo_page(data)
    samples = stored_samples(page)
    if samples is None:
        return _from_pillow(open_pillow(one_page(page, palette_of_bytes(page)), "TIFF", page.size_hw))
    height, width = page.size_hw
    stored_hw = height, width * samples.pixel_bytes
    planes = [open_pillow(file, "TIFF", stored_hw) for file in samples.files]
    rgb = np.empty((height, width, 3), np.uint8)
    for rows in _bands(*stored_hw):
        stored = [np.asarray(_crop(plane, rows)) for plane in planes]
        rgb[rows] = _colours(samples.unpack(stored), samples)
    return rgb


def _colours(pixels: Bytes, samples: Samples) -> Bytes:
    """RGB on white from the bands of a TIFF, ``[rows, W, bands]``: those that are neither colour nor alpha left out."""
    colours = pixels[..., : samples.colours]
    if samples.colours == CMYK_BANDS:
        ink = 255 - colours.astype(np.uint16)
        colours = ((ink[..., :3] * ink[..., 3:] + 127) // 255).astype(np.uint8)
    if samples.inverted:
        colours = 255 - colours
    if samples.alpha is None:
        return colours
    return _on_white(colours, pixels[..., samples.alpha, None], samples.premultiplied)
