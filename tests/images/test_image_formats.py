"""Several hundred files of all kinds that people have, against pixels that are known; cut ones are refused.

The files are written by `picture_writers` or Pillow, the expected pixels come from the arrays they were made of.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from picture_writers import Page, bmp, chunk, netpbm, png, tiff
from singleshot.data.headers import read_headers
from singleshot.errors import ImageError
from singleshot.images.read import image_size, read_image

HEIGHT, WIDTH = 40, 52
File = tuple[str, bytes, np.ndarray, int]
"""Name, content, expected RGB, tolerance."""


def colours() -> np.ndarray:
    """Smooth, without symmetry."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = [x * 255 // WIDTH, y * 255 // HEIGHT, (x + y) * 255 // (HEIGHT + WIDTH)]
    return np.stack(planes, axis=-1).astype(np.uint8)


RGB = colours()
GRAY = RGB[..., 2:]
ALPHA = ((np.mgrid[:HEIGHT, :WIDTH][1] * 5 + np.mgrid[:HEIGHT, :WIDTH][0]) % 256).astype(np.uint8)[..., None]
NEAR_INFRARED = RGB[::-1, ::-1, :1]
CMYK = np.concatenate([255 - RGB, RGB[..., 1:2] // 3], axis=-1)


def gray(samples: np.ndarray) -> np.ndarray:
    return samples.repeat(3, axis=-1)


def on_white(colour: np.ndarray, alpha: np.ndarray = ALPHA) -> np.ndarray:
    weight = alpha / 255.0
    return np.floor(colour * weight + 255 * (1 - weight) + 0.5).astype(np.uint8) * np.ones(3, np.uint8)


def premultiplied(colour: np.ndarray) -> np.ndarray:
    return np.floor(colour * (ALPHA / 255.0) + 0.5).astype(np.uint8)


def deep(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.uint16) * 257


def join(*bands: np.ndarray) -> np.ndarray:
    return np.concatenate(bands, axis=-1)


TIFF_KINDS: dict[str, tuple[np.ndarray, int, tuple[int, ...] | None, np.ndarray]] = {
    "gray": (GRAY, 1, None, gray(GRAY)),
    "white-is-zero": (255 - GRAY, 0, None, gray(GRAY)),
    "gray-alpha": (join(GRAY, ALPHA), 1, (2,), on_white(GRAY)),
    "gray-premultiplied": (join(premultiplied(GRAY), ALPHA), 1, (1,), on_white(GRAY)),
    "gray-other-band": (join(GRAY, ALPHA), 1, (0,), gray(GRAY)),
    "rgb": (RGB, 2, None, RGB),
    "rgb-alpha": (join(RGB, ALPHA), 2, (2,), on_white(RGB)),
    "rgb-premultiplied": (join(premultiplied(RGB), ALPHA), 2, (1,), on_white(RGB)),
    "rgb-infrared": (join(RGB, NEAR_INFRARED), 2, (0,), RGB),
    "rgb-undeclared": (join(RGB, NEAR_INFRARED), 2, None, RGB),
    "rgb-infrared-alpha": (join(RGB, NEAR_INFRARED, ALPHA), 2, (0, 2), on_white(RGB)),
    "rgb-eight-bands": (join(RGB, *[NEAR_INFRARED] * 5), 2, (0,) * 5, RGB),
    "cmyk": (CMYK, 5, None, np.floor((255 - CMYK[..., :3]) * ((255 - CMYK[..., 3:]) / 255.0) + 0.5).astype(np.uint8)),
}
LAYOUTS = [
    {"planar": planar, "tile": tile, "compression": compression, "predictor": predictor}
    for planar, tile, (compression, predictor) in product(
        (False, True), (0, 16, 64), ((1, 1), (8, 1), (8, 2), (32773, 1))
    )
]


def tiff_files() -> Iterator[File]:
    for (kind, (samples, photometric, extra, expected)), layout in product(TIFF_KINDS.items(), LAYOUTS):
        tolerance = 1 if "premultiplied" in kind else 0
        words = "-".join(f"{key}{value:d}" for key, value in layout.items())
        for depth, order, big in ((8, "<", False), (16, "<", True), (16, ">", False)):
            stored = samples if depth == 8 else deep(samples)
            page = Page(stored, photometric, depth, extra_bands=extra, **layout)
            yield f"tiff-{kind}-{depth}{order}-{words}", tiff(page, order=order, big=big), expected, tolerance


def low_depth_tiffs() -> Iterator[File]:
    for depth, white_is_zero, compression in product((1, 2, 4), (False, True), (1, 8, 32773)):
        top = 2**depth - 1
        levels = (GRAY.astype(int) * top + 127) // 255
        page = Page(top - levels if white_is_zero else levels, int(not white_is_zero), depth, compression=compression)
        yield (
            f"tiff-{depth}bit-{white_is_zero}-{compression}",
            tiff(page),
            gray((levels * 255 // top).astype(np.uint8)),
            0,
        )
    palette = np.random.default_rng(3).integers(0, 256, (16, 3))
    levels = GRAY // 16
    tags = {320: (palette * 257).T.ravel().tolist()}
    yield "tiff-palette4", tiff(Page(levels, 3, 4, tags=tags)), palette[levels[..., 0]].astype(np.uint8), 0


def pillow(image: Any, kind: str, **options: Any) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pillow_tiffs() -> Iterator[File]:
    for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma"):
        yield f"tiff-{name}", pillow(RGB, "TIFF", compression=name), RGB, 0
    yield "tiff-jpeg", pillow(RGB, "TIFF", compression="jpeg", quality=97), RGB, 12
    yield "tiff-jpeg-gray", pillow(GRAY[..., 0], "TIFF", compression="jpeg", quality=97), gray(GRAY), 6
    bits = Image.fromarray(RGB).convert("1")
    for name in ("tiff_ccitt", "group3", "group4"):
        yield f"tiff-{name}", pillow(bits, "TIFF", compression=name), np.asarray(bits.convert("RGB")), 0
    yield "tiff-ycbcr", pillow(Image.fromarray(RGB).convert("YCbCr"), "TIFF", compression="tiff_lzw"), RGB, 4


def png_files() -> Iterator[File]:
    for depth, interlaced in product((1, 2, 4, 8, 16), (False, True)):
        top = 2**depth - 1
        levels = (GRAY.astype(np.int64) * top + 127) // 255
        shown = gray((levels >> 8 if depth == 16 else levels * 255 // top).astype(np.uint8))
        name = f"png-{depth}bit-{'interlaced' if interlaced else 'plain'}"
        yield f"{name}-gray", png(levels, depth, 0, interlaced=interlaced), shown, 0
        clear = int(levels[11, 7, 0])
        keyed = np.where(levels == clear, 255, shown).astype(np.uint8)
        key = chunk(b"tRNS", struct.pack(">H", clear))
        yield f"{name}-gray-key", png(levels, depth, 0, interlaced=interlaced, extra=key), keyed, 0
        if depth <= 8:
            yield from palette_pngs(name, levels, depth, interlaced)
        if depth >= 8:
            yield from colour_pngs(name, depth, interlaced)
    yield "apng", pillow(RGB, "PNG", save_all=True, append_images=[Image.fromarray(RGB[::-1])]), RGB, 0


def palette_pngs(name: str, levels: np.ndarray, depth: int, interlaced: bool) -> Iterator[File]:
    rng = np.random.default_rng(depth)
    palette, alpha = (rng.integers(0, 256, (2**depth, n), dtype=np.uint8) for n in (3, 1))
    parts = chunk(b"PLTE", palette.tobytes())
    index = levels[..., 0]
    yield f"{name}-palette", png(levels, depth, 3, interlaced=interlaced, extra=parts), palette[index], 0
    clear = png(levels, depth, 3, interlaced=interlaced, extra=parts + chunk(b"tRNS", alpha.tobytes()))
    yield f"{name}-palette-alpha", clear, on_white(palette[index], alpha[index]), 0
    part = png(levels, depth, 3, interlaced=interlaced, extra=parts + chunk(b"tRNS", b"\0"))
    yield f"{name}-palette-first", part, np.where(index[..., None] == 0, 255, palette[index]).astype(np.uint8), 0


def colour_pngs(name: str, depth: int, interlaced: bool) -> Iterator[File]:
    scale = deep if depth == 16 else np.asarray
    kinds = {"rgb": (RGB, 2, RGB), "rgba": (join(RGB, ALPHA), 6, on_white(RGB))}
    kinds |= {"gray-alpha": (join(GRAY, ALPHA), 4, on_white(GRAY))}
    for kind, (samples, colour, expected) in kinds.items():
        yield f"{name}-{kind}", png(scale(samples), depth, colour, interlaced=interlaced), expected, 0
    stored = scale(RGB).copy()
    stored[3, 4] += 1 if depth == 16 else 0  # a neighbour of the transparent colour is not transparent
    shown = RGB.copy()
    shown[11, 7] = 255
    key = chunk(b"tRNS", struct.pack(">3H", *scale(RGB)[11, 7].tolist()))
    yield f"{name}-rgb-key", png(stored, depth, 2, interlaced=interlaced, extra=key), shown, 0


def bmp_files() -> Iterator[File]:
    red, green, blue = (RGB[..., band].astype(np.uint32) for band in range(3))
    alpha = ALPHA[..., 0].astype(np.uint32)
    five = (red >> 3 << 11) | (green >> 2 << 5) | blue >> 3
    shown = np.stack([(red >> 3) * 255 // 31, (green >> 2) * 255 // 63, (blue >> 3) * 255 // 31], -1).astype(np.uint8)
    usual = (0xFF0000, 0xFF00, 0xFF)
    swapped = (0xFF, 0xFF00, 0xFF0000)
    for version, top_down in product((3, 4, 5), (False, True)):
        form = {"version": version, "top_down": top_down}
        name = f"bmp-v{version}-{'down' if top_down else 'up'}"
        yield f"{name}-565", bmp(five, 16, (0xF800, 0x7E0, 0x1F), **form), shown, 1
        ten = (red * 4 << 20) | (green * 4 << 10) | blue * 4
        yield f"{name}-10-bits", bmp(ten, 32, (0x3FF00000, 0xFFC00, 0x3FF), **form), RGB, 1
        odd = bmp(five[:, 1:], 16, (0x1F, 0x7E0, 0xF800), **form)
        yield f"{name}-565-swapped", odd, shown[:, 1:, ::-1], 1
        yield f"{name}-usual", bmp(red << 16 | green << 8 | blue, 32, usual, **form), RGB, 0
        yield f"{name}-swapped", bmp(blue << 16 | green << 8 | red, 32, swapped, **form), RGB, 0
        yield f"{name}-no-masks", bmp(alpha << 24 | red << 16 | green << 8 | blue, 32, **form), RGB, 0
        if version > 3:
            clear = alpha << 24 | red << 16 | green << 8 | blue
            yield f"{name}-alpha", bmp(clear, 32, (*usual, 0xFF000000), **form), on_white(RGB), 0
            clear = alpha << 24 | blue << 16 | green << 8 | red
            yield f"{name}-alpha-swapped", bmp(clear, 32, (*swapped, 0xFF000000), **form), on_white(RGB), 0
    yield "bmp-24", pillow(RGB, "BMP"), RGB, 0
    bits = Image.fromarray(RGB).convert("1")
    yield "bmp-1", pillow(bits, "BMP"), np.asarray(bits.convert("RGB")), 0


def netpbm_files() -> Iterator[File]:
    bits = (GRAY > 100).astype(np.int64)
    for kind, comment in product((1, 4), ("", "a comment")):
        yield f"pbm-{kind}-{bool(comment)}", netpbm(bits, 1, kind, comment), gray((bits * 255).astype(np.uint8)), 0
    for maxval in (1, 2, 15, 100, 255, 256, 1023, 4095, 16383, 65535):
        for kind, bands in ((2, GRAY), (5, GRAY), (3, RGB), (6, RGB), (7, GRAY), (7, RGB)):
            levels = (bands.astype(np.int64) * maxval + 127) // 255
            shown = ((levels * 510 + maxval) // (2 * maxval)).astype(np.uint8) * np.ones(3, np.uint8)
            yield f"pnm-{kind}-{bands.shape[2]}-{maxval}", netpbm(levels, maxval, kind, "c"), shown, 0
    for bands, expected in ((join(GRAY, ALPHA), on_white(GRAY)), (join(RGB, ALPHA), on_white(RGB))):
        yield f"pam-alpha-{bands.shape[2]}", netpbm(bands, 255, 7), expected, 0
        yield f"pam-alpha-deep-{bands.shape[2]}", netpbm(deep(bands), 65535, 7), expected, 0


def other_files() -> Iterator[File]:
    rgba, second = Image.fromarray(join(RGB, ALPHA)), Image.fromarray(RGB[::-1])
    yield "webp", pillow(RGB, "WEBP", lossless=True), RGB, 0
    yield "webp-alpha", pillow(rgba, "WEBP", lossless=True, exact=True), on_white(RGB), 0
    yield "webp-animated", pillow(RGB, "WEBP", lossless=True, save_all=True, append_images=[second]), RGB, 0
    yield "avif", pillow(RGB, "AVIF", quality=95, subsampling="4:4:4"), RGB, 12
    yield "avif-gray", pillow(gray(GRAY), "AVIF", quality=95, subsampling="4:0:0"), gray(GRAY), 12
    yield "avif-alpha", pillow(rgba, "AVIF", quality=95, subsampling="4:4:4"), on_white(RGB), 12
    yield "avif-animated", pillow(RGB, "AVIF", quality=95, save_all=True, append_images=[second]), RGB, 30
    for kind, bands, expected in (("rgb", RGB, RGB), ("gray", GRAY[..., 0], gray(GRAY)), ("rgba", rgba, on_white(RGB))):
        for codestream in (False, True):
            yield f"jpeg2000-{kind}-{codestream}", pillow(bands, "JPEG2000", no_jp2=codestream), expected, 0
    gray_alpha = Image.merge("LA", [Image.fromarray(GRAY[..., 0]), Image.fromarray(ALPHA[..., 0])])
    yield "jpeg2000-gray-alpha", pillow(gray_alpha, "JPEG2000"), on_white(GRAY), 0
    yield "jpeg2000-deep", pillow(Image.fromarray(deep(GRAY[..., 0])), "JPEG2000"), gray(GRAY), 0
    palette = Image.fromarray(RGB).quantize(64)
    shown, index = np.asarray(palette.convert("RGB")), np.asarray(palette)[..., None]
    gif = pillow(palette, "GIF")
    yield "gif", gif, shown, 0
    yield "gif-interlaced", pillow(palette, "GIF", interlace=1), shown, 0
    yield "gif-without-trailer", gif.removesuffix(b";"), shown, 0
    yield "gif-animated", pillow(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]), shown, 0
    clear = int(index[5, 5, 0])
    keyed = np.where(index == clear, 255, shown).astype(np.uint8)
    yield "gif-transparent", pillow(palette, "GIF", transparency=clear), keyed, 0
    whole = pillow(RGB, "JPEG", quality=97, subsampling=0)
    yield "jpeg", whole, RGB, 6
    yield "jpeg-progressive", pillow(RGB, "JPEG", quality=97, subsampling=0, progressive=True), RGB, 6
    yield "jpeg-gray", pillow(GRAY[..., 0], "JPEG", quality=97), gray(GRAY), 3
    yield "jpeg-cmyk", pillow(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=97), RGB, 8
    for kind in ("RGB", "CMYK", "L"):
        for progressive in (False, True):
            data = pillow(Image.fromarray(RGB).convert(kind), "JPEG", quality=97, progressive=progressive)
            shown = RGB if kind != "L" else np.asarray(Image.fromarray(RGB).convert("L").convert("RGB"))
            without = data.removesuffix(b"\xff\xd9")
            yield f"jpeg-without-end-{kind}-{progressive}", without, shown, 24
            yield f"jpeg-trailer-{kind}-{progressive}", without + b"SEFH" + bytes(range(64)) + b"SEFT", shown, 24


def turned_files() -> Iterator[File]:
    options: dict[str, dict[str, Any]] = {"JPEG": {"quality": 97, "subsampling": 0}, "PNG": {}, "TIFF": {}}
    options |= {"WEBP": {"lossless": True}, "AVIF": {"quality": 95, "subsampling": "4:4:4"}}
    for kind, orientation in product(options, range(1, 9)):
        exif = Image.Exif()
        exif[274] = orientation
        upright = np.asarray(ImageOps.exif_transpose(_tagged(exif)))
        name = f"turned-{kind.lower()}-{orientation}"
        yield (
            name,
            pillow(RGB, kind, exif=exif.tobytes(), **options[kind]),
            upright,
            12 if kind in ("JPEG", "AVIF") else 0,
        )
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        upright = np.asarray(ImageOps.exif_transpose(_tagged(exif)))
        for depth, planar in ((8, True), (16, False)):
            page = Page(RGB if depth == 8 else deep(RGB), 2, depth, planar=planar, tags={274: [orientation]})
            yield f"turned-tiff-{depth}-{orientation}", tiff(page), upright, 0
        jpeg = pillow(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=97, subsampling=0, exif=exif.tobytes())
        yield f"turned-cmyk-{orientation}", jpeg, upright, 12


def _tagged(exif: Any) -> Any:
    image = Image.open(io.BytesIO(pillow(RGB, "PNG", exif=exif.tobytes())))
    image.load()
    return image


def paged_tiffs() -> Iterator[File]:
    small = Page(RGB[::4, ::4], 2, tags={254: [1]})
    yield "tiff-thumbnail-first", tiff(small, Page(RGB, 2)), RGB, 0
    yield "tiff-old-thumbnail-first", tiff(Page(RGB[::4, ::4], 2, tags={255: [2]}), Page(RGB, 2)), RGB, 0
    yield "tiff-mask-first", tiff(Page(GRAY, 1, tags={254: [4]}), Page(deep(RGB), 2, 16, planar=True)), RGB, 0
    yield "tiff-pages", tiff(Page(RGB, 2), Page(RGB[::-1], 2)), RGB, 0
    yield "tiff-two-page-flag", tiff(Page(RGB, 2, tags={254: [2]})), RGB, 0


MAKERS = (tiff_files, low_depth_tiffs, pillow_tiffs, paged_tiffs, png_files, bmp_files, netpbm_files)
GROUPS = {maker.__name__: maker for maker in (*MAKERS, other_files, turned_files)}


@pytest.mark.parametrize("group", GROUPS)
def test_every_file_shows_what_was_written(group: str) -> None:
    wrong, count = [], 0
    for name, data, expected, tolerance in GROUPS[group]():
        count += 1
        try:
            image = read_image(data)
        except ImageError as error:
            wrong.append(f"{name}: {error}")
            continue
        if image_size(data) != image.shape[:2] or image.shape != expected.shape:
            wrong.append(f"{name}: {image_size(data)}, {image.shape}, not {expected.shape}")
        elif (off := np.abs(image.astype(int) - expected).max()) > tolerance:
            wrong.append(f"{name}: off by {off}")
    assert count
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("group", GROUPS)
def test_cut_files_are_refused_or_hold_all_pixels(group: str) -> None:
    wrong, refused = [], 0
    for name, data, *_ in list(GROUPS[group]())[:: 11 if group == "tiff_files" else 1]:
        whole = read_image(data)
        for part in (0.1, 0.5, 0.8, 0.97):
            try:
                image = read_image(data[: int(len(data) * part)])
            except ImageError:
                refused += 1
                continue
            if not np.array_equal(image, whole):
                wrong.append(f"{name}: {part:.0%} are read as a picture")
    assert refused
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [20, 400])
def test_an_orientation_after_the_pixels_of_a_png(tmp_path: Path, orientation: int, size: int) -> None:
    """As ImageMagick writes it; 400 x 400 of noise do not fit the first part of the file that headers are read from."""
    stored = np.random.default_rng(0).integers(0, 256, (size, size + 9, 3), np.uint8)
    early, late = tmp_path / "early.png", tmp_path / "late.png"
    block = Image.Exif()
    block[274] = orientation
    Image.fromarray(stored).save(early, exif=block.tobytes())
    Image.fromarray(stored).save(late)
    tail = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 274, 3, 1, orientation, 0, 0)
    data = late.read_bytes()
    late.write_bytes(data[:-12] + chunk(b"eXIf", tail) + data[-12:])
    assert np.array_equal(read_image(late), read_image(early))
    assert image_size(late) == image_size(early) == read_image(late).shape[:2]
    sizes = read_headers([late, early])
    assert sizes.faults == {}
    assert sizes.orientations.tolist() == [orientation, orientation]
    assert sizes.upright_hw.tolist() == [list(image_size(early))] * 2


def test_a_damaged_orientation_after_the_pixels_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    data = path.read_bytes()
    tail = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 274, 3, 1, 6, 0, 0)
    late = bytearray(chunk(b"eXIf", tail))
    late[-1] ^= 1
    path.write_bytes(data[:-12] + late + data[-12:])
    assert image_size(path) == RGB.shape[:2]


def test_a_palette_of_bytes_in_a_tiff() -> None:
    """Some writers take 255 for white, where the tag wants 65535: libtiff has always seen to it."""
    indices = np.arange(40 * 52, dtype=np.uint8).reshape(40, 52, 1)
    colours = np.random.default_rng(1).integers(0, 256, (3, 256))
    colours[:, 7] = 255
    data = tiff(Page(indices, 3, tags={320: colours.ravel().tolist()}))
    assert np.array_equal(read_image(data), colours.T[indices[..., 0]])
