"""Reading pictures of every kind, and refusing what is not one. Pillow writes the files and is the second opinion."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot.errors import ImageError
from singleshot.images.read import MAX_PIXELS, check_rgb, image_size, read_image, write_image

Image = pytest.importorskip("PIL.Image", reason="Pillow (with scikit-image) writes the test files")


def picture(height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth colours, no symmetry: turning, flipping or swapping channels changes it visibly."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], axis=-1).astype(np.uint8)


def encode(image: Any, kind: str, **options: Any) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[274] = orientation
    return block.tobytes()


RGB = Image.fromarray(picture())
GRAY = RGB.convert("L")
RGBA = RGB.copy()
RGBA.putalpha(Image.fromarray(np.arange(64, dtype=np.uint8)[None].repeat(48, 0) * 4))
PALETTE = RGB.quantize(64)
SIXTEEN = Image.fromarray(np.asarray(GRAY).astype(np.uint16) * 257)
TURNED = [RGB, RGB.rotate(180)]


def on_white(image: Any) -> np.ndarray:
    image = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


@pytest.mark.parametrize(
    ("data", "expected", "tolerance"),
    [
        (encode(RGB, "PNG"), RGB, 0),
        (encode(RGB, "BMP"), RGB, 0),
        (encode(RGB, "TIFF"), RGB, 0),
        (encode(RGB, "TIFF", compression="tiff_lzw"), RGB, 0),
        (encode(RGB, "PPM"), RGB, 0),
        (encode(RGB, "WEBP", lossless=True), RGB, 0),
        (encode(RGB, "WEBP", quality=95), RGB, 12),
        (encode(RGB, "JPEG", quality=98), RGB, 6),
        (encode(RGB, "JPEG", quality=98, progressive=True), RGB, 6),
        (encode(RGB.convert("CMYK"), "JPEG", quality=98), RGB, 8),
        (encode(GRAY, "JPEG", quality=98), GRAY, 3),
        (encode(GRAY, "PNG"), GRAY, 0),
        (encode(GRAY.convert("1"), "PNG"), GRAY.convert("1"), 0),
        (encode(GRAY.convert("1"), "TIFF"), GRAY.convert("1"), 0),
        (encode(PALETTE, "PNG"), PALETTE, 0),
        (encode(PALETTE, "GIF"), PALETTE, 0),
        (encode(SIXTEEN, "PNG"), GRAY, 0),
        (encode(SIXTEEN, "TIFF"), GRAY, 0),
        (encode(RGB, "WEBP", lossless=True, save_all=True, append_images=TURNED[1:]), RGB, 0),
        (encode(RGB, "PNG", save_all=True, append_images=TURNED[1:]), RGB, 0),
        (encode(RGB, "TIFF", save_all=True, append_images=TURNED[1:]), RGB, 0),
        (encode(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)]), PALETTE, 0),
    ],
    ids=[
        "png",
        "bmp",
        "tiff",
        "tiff-lzw",
        "ppm",
        "webp-lossless",
        "webp",
        "jpeg",
        "jpeg-progressive",
        "jpeg-cmyk",
        "jpeg-gray",
        "png-gray",
        "png-1bit",
        "tiff-1bit",
        "png-palette",
        "gif",
        "png-16bit",
        "tiff-16bit",
        "webp-animated",
        "apng",
        "tiff-pages",
        "gif-animated",
    ],
)
def test_every_kind_becomes_rgb(data: bytes, expected: Any, tolerance: int) -> None:
    image = read_image(data)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.shape == (48, 64, 3)
    assert image_size(data) == (48, 64)
    assert np.abs(image.astype(int) - np.asarray(expected.convert("RGB"))).max() <= tolerance


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(RGBA, "PNG"), RGBA),
        (encode(RGBA, "WEBP", lossless=True, exact=True), RGBA),
        (encode(RGBA, "TIFF"), RGBA),
        (encode(RGBA.convert("LA"), "PNG"), RGBA.convert("LA")),
        (encode(PALETTE, "PNG", transparency=PALETTE.getpixel((5, 5))), None),
        (encode(PALETTE, "GIF", transparency=PALETTE.getpixel((5, 5))), None),
    ],
    ids=["png", "webp", "tiff", "png-gray-alpha", "png-palette", "gif"],
)
def test_transparency_shows_white(data: bytes, expected: Any) -> None:
    expected = expected or Image.open(io.BytesIO(data))
    np.testing.assert_allclose(read_image(data).astype(int), on_white(expected), atol=1)


def test_sixteen_bit_colour_is_scaled() -> None:
    deep = picture().astype(np.uint16) * 257
    done, data = cv2.imencode(".png", deep[..., ::-1])
    assert done
    np.testing.assert_array_equal(read_image(data.tobytes()), picture())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    from PIL import ImageOps

    options = {"JPEG": {"quality": 98}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encode(RGB, kind, exif=exif(orientation), **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    image = read_image(data)
    assert image_size(data) == image.shape[:2] == upright.shape[:2]
    assert np.abs(image.astype(int) - upright).max() <= (6 if kind == "JPEG" else 0)


def test_damaged_exif_means_upright() -> None:
    data = encode(RGB, "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\xff\xff")
    assert read_image(data).shape == (48, 64, 3)


def test_header_beyond_the_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "profile.jpg"
    path.write_bytes(encode(RGB, "JPEG", icc_profile=bytes(200_000)))
    assert image_size(path) == (48, 64)
    assert read_image(path).shape == (48, 64, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_cut_off_files_are_refused(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (80, 90, 3), dtype=np.uint8))
    data = encode(image.quantize(64) if kind == "GIF" else image, kind)
    path = tmp_path / f"cut.{kind.lower()}"
    for part in (0.02, 0.5, 0.9):
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ImageError, match=r"cut\."):
            read_image(path)


def test_jpeg_with_a_whole_thumbnail_but_half_an_image_is_refused() -> None:
    thumbnail = encode(picture(8, 8), "JPEG")
    data = encode(RGB, "JPEG", comment=thumbnail)
    with pytest.raises(ImageError, match="cut off"):
        read_image(data[: len(data) - 200])


def test_bytes_after_the_image_do_no_harm() -> None:
    assert read_image(encode(RGB, "JPEG") + bytes(5000)).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b'<svg xmlns="x"/>', "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"%PDF-1.7", "PDF"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00", "HEIC"),
        (b"no image at all", "JPEG, PNG"),
        (b"\xff\xd8\xff\xd9", "damaged"),
        (b"\xff\xd8\xff", "cut off"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged"),
        (b"RIFF\x10\x00\x00\x00WEBPXXXX" + bytes(40), "damaged"),
        (b"II\x2a\x00\x08\x00\x00\x00\x00\x00", "damaged"),
        (encode(SIXTEEN.convert("F"), "TIFF"), "float32"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert "photo.jpg" in str(caught.value)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    write_image(tmp_path / "street.png", picture())
    with pytest.raises(ImageError, match=r"did you mean .*street\.png"):
        read_image(tmp_path / "streat.png")
    with pytest.raises(ImageError, match="folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        read_image(tmp_path / "none" / "a.png")


def test_huge_images_are_refused_from_their_header() -> None:
    claim = bytearray(encode(RGB, "PNG"))
    claim[16:24] = struct.pack(">II", 100_000, 100_000)
    with pytest.raises(ImageError, match="10,000,000,000 pixels are over the limit"):
        read_image(bytes(claim))
    assert image_size(bytes(claim)) == (100_000, 100_000)
    assert MAX_PIXELS < 100_000**2


def test_pixel_limit_is_the_callers() -> None:
    data = encode(RGB, "PNG")
    assert read_image(data, max_pixels=48 * 64).shape == (48, 64, 3)
    with pytest.raises(ImageError, match="max_pixels"):
        read_image(data, max_pixels=48 * 64 - 1)


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II\x2a\x00", b"BM", b"P6 "])
)
@settings(max_examples=150, deadline=None)
def test_noise_never_escapes_as_another_error(noise: bytes, start: bytes) -> None:
    with pytest.raises(ImageError):
        read_image(start + noise, max_pixels=10_000)


@given(st.integers(0, 600), st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_one_wrong_byte_gives_an_image_or_an_image_error(at: int, value: int) -> None:
    data = bytearray(JPEG)
    data[at % len(data)] = value
    with contextlib.suppress(ImageError):
        assert read_image(bytes(data), max_pixels=10_000).ndim == 3


JPEG = encode(picture(16, 24), "JPEG")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "255"),
        (np.zeros((4, 4), np.uint8), r"np\.stack"),
        (np.zeros((4, 4, 4), np.uint8), r"\[\.\.\., :3\]"),
        (np.zeros((3, 4, 4), np.uint8), "transpose"),
        (np.zeros((2, 4, 4, 3), np.uint8), "list"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        ([[0, 0, 0]], "not list"),
    ],
)
def test_wrong_arrays_are_told_the_remedy(image: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        check_rgb(image)


def test_writing_is_lossless_or_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture())
    with pytest.raises(ImageError, match=r"\.xyz"):
        write_image(tmp_path / "a.xyz", picture())
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_real_photos_equal_pillow(reference: Path) -> None:
    for path in sorted((reference / "data/coco_train343/images").iterdir())[:12]:
        expected = np.asarray(Image.open(path).convert("RGB"))
        image = read_image(path)
        assert image_size(path) == expected.shape[:2]
        assert np.abs(image.astype(int) - expected).max() <= 1
