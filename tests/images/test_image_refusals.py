"""What is refused: by name, with a remedy, and before much memory or time is spent."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_image_formats import ALPHA, CMYK, GRAY, GROUPS, RGB, deep, join, pillow

from picture_writers import Page, bmp, chunk, png, tiff
from singleshot.data.headers import read_headers
from singleshot.errors import ImageError
from singleshot.images.read import image_size, read_image

SMALL = Page(RGB[::4, ::4], 2, tags={254: [1]})
FLOATS = np.linspace(0, 1, 40 * 52, dtype=np.float32).view(np.uint32).reshape(40, 52, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(SMALL, Page(RGB, 2, tags={50706: [1, 4, 0, 0]})), None),  # what follows the photo does not matter
        (tiff(Page(RGB, 2, tags={50706: [1, 4, 0, 0]})), "camera's raw file: develop it"),
        (tiff(Page(RGB[::4, ::4], 2, tags={254: [1], 330: [8]})), "camera's raw file"),
        (tiff(Page(GRAY, 32803)), "camera's raw file"),
        (tiff(Page(RGB, 34892)), "camera's raw file"),
        (b"II\x2a\x00\x10\x00\x00\x00CR\x02\x00" + tiff(Page(RGB, 2)), "camera's raw file"),
        (b"IIRO\x08\x00\x00\x00" + bytes(100), "camera's raw file"),
        (b"IIU\x00\x08\x00\x00\x00" + bytes(100), "camera's raw file"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(100), "camera's raw file"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(100), "camera's raw file"),
        (tiff(SMALL), "marked as reduced copies"),
        (tiff(Page(FLOATS, 1, 32, tags={339: [3]})), "float32: save it with 8 or 16 bits"),
        (tiff(Page(FLOATS, 1, 32)), "uint32: save it with 8 or 16 bits"),
        (tiff(Page(GRAY, 1, tags={339: [2]})), "int8: save it with 8 or 16 bits"),
        (tiff(Page(RGB, 8)), "CIE Lab: save it as RGB"),
        (tiff(Page(RGB, 6, tags={530: [2, 2]})), "YCbCr without compression: save it as RGB"),
        (tiff(Page(join(CMYK, ALPHA), 5, tags={332: [2]})), "no known colours: save it as RGB"),
        (tiff(Page(GRAY // 16, 1, tags={258: [12]})), "of 12 bits: save it with 8 bits"),
        (tiff(Page(RGB, 2, tags={258: [5, 6, 5]})), "of 5, 6, 5 bits"),
        (tiff(Page(RGB, 2, planar=True, tags={259: [7]})), "pixel by pixel"),
        (tiff(Page(RGB, 2, tile=16, tags={322: [40000], 323: [40000]})), "tiles are far larger"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0heicmif1" + bytes(40), "HEIC photo.*export it as JPEG"),
        (b"\0\0\0\x1cftypheic\0\0\0\0heicmif1" + bytes(40), "HEIC photo"),
        (b"\xff\x0a" + bytes(40), "JPEG XL.*export it as JPEG or PNG"),
        (b"8BPS\0\1" + bytes(40), "not an image that singleshot reads"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not an image that singleshot reads"),
        (b"P5 4 4 0\n" + bytes(16), "white is 0, not 1 to 65535"),
        (b"P5 4 4 65536\n" + bytes(32), "white is 65536"),
        (b"P2 4 1 255\n1 2 x 4\n" + bytes(16), "not whole numbers"),
        (b"P7\nWIDTH 4\nHEIGHT 4\nDEPTH 7\nMAXVAL 255\nENDHDR\n" + bytes(112), "PAM of 7 bands"),
        (pillow(RGB, "JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), "12 bits: save it with 8 bits"),
    ],
)
def test_it_is_named_with_a_remedy(tmp_path: Path, data: bytes, message: str | None) -> None:
    path = tmp_path / "photo.tif"
    path.write_bytes(data)
    if message is None:
        assert read_image(path).shape == RGB.shape
        return
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")


def giant_png(width: int, height: int, depth: int, colour: int) -> bytes:
    """The header of a large picture, and pixels of a small one."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(4_000_000))) + chunk(b"IEND", b"")


def claim(data: bytes, at: int, form: str, *sizes: int) -> bytes:
    return data[:at] + struct.pack(form, *sizes) + data[at + struct.calcsize(form) :]


PLAIN = png(RGB, 8, 2)
JPEG = pillow(RGB, "JPEG")
FRAME = JPEG.index(b"\xff\xc0") + 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (giant_png(100_000, 100_000, 8, 2), "10,000,000,000 pixels are over the limit"),
        (giant_png(13_000, 13_000, 8, 2), "cut off"),  # deflate cannot hold so much in so few bytes
        (giant_png(13_000, 13_000, 16, 6), "cut off"),
        (claim(PLAIN, 8, ">I", 0xFFFFFFFF), "does not begin with IHDR"),
        (claim(PLAIN, 33, ">I", 0xFFFFFFF0), "cut off"),
        (PLAIN[:33] + chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(2**24))) + PLAIN[33:], None),
        (PLAIN[:33] + chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(2**24))) + PLAIN[33:], None),
        (png(join(RGB, ALPHA), 8, 6, extra=chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(2**24)))), None),
        (png(join(RGB, ALPHA), 8, 6, extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**24)))), None),
        (claim(JPEG, FRAME, ">HH", 65_500, 65_500), "pixels are over the limit"),
        (claim(pillow(RGB, "GIF"), 6, "<HH", 65_535, 65_535), "pixels are over the limit"),
        (claim(bmp(RGB[..., 0], 32), 18, "<ii", 65_000, 65_000), "pixels are over the limit"),
        (b"P6 65000 65000 255\n" + bytes(100), "pixels are over the limit"),
        (b"P6 9000 9000 255\n" + bytes(100), "cut off"),
        (b"P3 9000 9000 255\n" + b"1 " * 100, "cut off"),
        (tiff(Page(RGB, 2, tags={256: [60_000], 257: [60_000]})), "pixels are over the limit"),
        (
            tiff(Page(deep(join(RGB, ALPHA)), 2, 16, tags={256: [13_000], 257: [13_000]})),
            "MiB of memory, over the limit",
        ),
        (claim(pillow(RGB, "JPEG2000", no_jp2=True), 8, ">II", 60_000, 60_000), "pixels are over the limit"),
        (claim(pillow(RGB, "WEBP", lossless=True), 21, "<I", 12_999 | 12_999 << 14), "MiB of memory, over the limit"),
    ],
)
def test_claims_are_checked_before_memory_is_taken(data: bytes, message: str | None) -> None:
    if message is None:
        assert read_image(data).shape == RGB.shape
        return
    with pytest.raises(ImageError, match=message):
        read_image(data)


def test_the_remedy_of_the_memory_limit_helps() -> None:
    data = pillow(RGB, "WEBP", lossless=True)
    with patch("singleshot.images.read._MIN_BYTES", 0):
        with pytest.raises(ImageError, match="raise max_pixels"):
            read_image(data, max_pixels=40 * 52)
        assert read_image(data, max_pixels=3 * 40 * 52).shape == RGB.shape
    assert read_image(data, max_pixels=40 * 52).shape == RGB.shape


def test_limits_of_pillow_are_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for data in (pillow(RGB, "WEBP", lossless=True), tiff(Page(deep(RGB), 2, 16)), pillow(RGB, "GIF")):
        assert read_image(data).shape == RGB.shape
        assert Image.MAX_IMAGE_PIXELS == 100


def test_threads_read_what_one_reads() -> None:
    files = [data for group in ("other_files", "paged_tiffs", "turned_files") for _, data, *_ in GROUPS[group]()]
    expected = [read_image(data) for data in files]
    wrong: list[int] = []

    def read_all() -> None:
        wrong.extend(i for i, data in enumerate(files) if not np.array_equal(read_image(data), expected[i]))

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_headers_agree_with_reading(tmp_path: Path) -> None:
    """What `data check` says of a file is what training finds."""
    paths, expected = [], []
    for name, data, *_ in (*GROUPS["other_files"](), *GROUPS["paged_tiffs"](), *GROUPS["turned_files"]()):
        for part in (1.0, 0.6):
            path = tmp_path / f"{name}-{part}"
            path.write_bytes(data[: int(len(data) * part)])
            paths.append(path)
            try:
                expected.append(read_image(path).shape[:2])
            except ImageError:
                expected.append(None)
    sizes = read_headers([str(path) for path in paths])
    for row, (path, size_hw) in enumerate(zip(paths, expected, strict=True)):
        if size_hw is not None:
            assert row not in sizes.faults, f"{path.name}: {sizes.faults[row]}"
            assert tuple(sizes.upright_hw[row].tolist()) == image_size(path) == size_hw


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "photo.jpg")
    with pytest.raises(ImageError, match=r"photo\.jpg: is not an ordinary file"):
        read_image(tmp_path / "photo.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image("photo\0.jpg")


FILES = [data for group in GROUPS for _, data, *_ in list(GROUPS[group]())[::13]]


@given(st.sampled_from(FILES), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4))
@settings(max_examples=300, deadline=None)
def test_wrong_bytes_give_an_image_of_the_promised_size_or_an_image_error(data: bytes, changes: list) -> None:
    changed = bytearray(data)
    for place, value in changes:
        changed[int(place**3 * len(data))] = value  # mostly in the header
    try:
        image = read_image(bytes(changed), max_pixels=10**6)
    except ImageError:
        return
    assert image_size(bytes(changed)) == image.shape[:2]


@pytest.mark.parametrize("cut", [1, 2, 50])
def test_a_tiff_without_its_last_pixels(tmp_path: Path, cut: int) -> None:
    """Not even one byte is taken from elsewhere: tags may lie before the pixels."""
    path = tmp_path / "a.tif"
    Image.fromarray(RGB).save(path)
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry) == (273,):
            struct.pack_into("<HII", data, entry + 2, 4, 1, len(data))
    whole = bytes(data) + RGB.tobytes()
    assert np.array_equal(read_image(whole), RGB)
    path.write_bytes(whole[:-cut])
    with pytest.raises(ImageError, match="the TIFF is cut off"):
        read_image(path)
    assert read_headers([path]).faults == {0: "the TIFF is cut off (its end is missing)"}
