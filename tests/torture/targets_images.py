"""Pictures, and the files that hold many."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, features

from singleshot.images.packed import is_container
from singleshot.images.read import check_encoded, image_size, read_image
from singleshot.prediction.sources import search_images
from torture.structures import in_png, in_rows, in_tar, in_zip
from torture.target import Files, Target
from torture.writers import Page, make_rec, png, tiff

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
WORDS = (
    b"\xff\xd8", b"\xff\xd9", b"\xff\xc0\0\x11\x08", b"\xff\xc4", b"\xff\xda", b"\xff\xe1", b"Exif\0\0", b"II*\0",
    b"MM\0*", b"II+\0", b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"IEND", b"acTL", b"GIF89a", b"\x21\xf9\x04", b"RIFF",
    b"WEBP", b"VP8 ", b"VP8L", b"VP8X", b"EXIF", b"ftypavif", b"ispe", b"irot", b"jP  ", b"BM", b"P7\n",
    b"P6\n", b"ENDHDR",
)  # fmt: skip


def with_pillow(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def with_opencv(suffix: str, pixels: np.ndarray = PIXELS) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def one(name: str, *contents: bytes) -> list[Files]:
    return [{name: content} for content in contents]


def jpegs() -> list[Files]:
    turned = Image.Exif()
    turned[0x112] = 6
    return one(
        "x.jpg",
        with_opencv(".jpg"),
        with_pillow("JPEG", progressive=True),
        with_pillow("JPEG", "CMYK"),
        with_pillow("JPEG", "L", exif=turned.tobytes()),
    )


def pngs() -> list[Files]:
    deep = PIXELS.astype(np.uint16) * 257
    return one(
        "x.png",
        png(PIXELS, 8, 2),
        png(deep, 16, 2, interlaced=True),
        with_pillow("PNG", "P"),
        with_pillow("PNG", "LA"),
        png(PIXELS[..., :1] % 2, 1, 0),
    )


def tiffs() -> list[Files]:
    deep = PIXELS.astype(np.uint16) * 257
    return one(
        "x.tif",
        tiff(Page(PIXELS, 2)),
        tiff(Page(deep, 2, depth=16, planar=True, predictor=2), order=">", big=True),
        tiff(Page(PIXELS[..., :1], 0, tile=16), Page(PIXELS, 2)),
        with_pillow("TIFF", compression="tiff_lzw"),
        with_pillow("TIFF", "1", compression="group4"),
        with_pillow("TIFF", "P", compression="packbits"),
    )


def others() -> list[Files]:
    found = one("x.gif", with_pillow("GIF")) + one(
        "x.webp", with_opencv(".webp"), with_pillow("WEBP", "RGBA", lossless=True)
    )
    found += one("x.bmp", with_opencv(".bmp"), with_pillow("BMP", "P"), with_pillow("BMP", "RGBA"))
    found += one("x.jp2", with_opencv(".jp2", np.tile(PIXELS, (8, 6, 1))))
    if features.check("avif"):
        found += one("x.avif", with_pillow("AVIF"))
    found += one(
        "x.ppm", with_opencv(".ppm"), b"P3\n2 1\n255\n1 2 3 4 5 6\n", b"P1 3 2 1 0 1 0 1 0", b"P5 1 1 65535 ab"
    )
    pam = b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\nabc"
    return found + one("x.pam", pam)


def decode(folder: Path) -> None:
    for path in folder.iterdir():
        image = read_image(path)
        assert image.dtype == np.uint8
        assert image.shape == (*image_size(path), 3)


def headers(folder: Path) -> None:
    for path in folder.iterdir():
        image_size(path)
        check_encoded(path.read_bytes())


def unpack(folder: Path) -> None:
    """Lists what a container holds, and reads its first pictures."""
    paths = sorted(folder.iterdir())
    container = next((path for path in paths if is_container(path)), folder / "x.zip")
    for path in search_images(container).images[:3]:
        read_image(path)


def zips() -> list[Files]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a/x.jpg", with_opencv(".jpg"))
            archive.writestr("a/y.png", png(PIXELS, 8, 2))
            archive.writestr("read.me", "text")
        found += one("x.zip", buffer.getvalue())
    return found


def tars() -> list[Files]:
    found = []
    for mode, name in (("w", "x.tar"), ("w:gz", "x.tar.gz"), ("w:bz2", "x.tar.bz2"), ("w:xz", "x.tar.xz")):
        members = {"a/x.jpg": with_opencv(".jpg"), "é/" + "y" * 120 + ".png": png(PIXELS, 8, 2)}
        found += one(name, tar_of(members, mode))
    return found


def tar_of(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for key, content in members.items():
            info = tarfile.TarInfo(key)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def records(folder: Path) -> Sequence[Files]:
    labels = [[2, 5, 0, 0.1, 0.1, 0.5, 0.5], [2, 5, 1, 0.2, 0.2, 0.9, 0.9], [2, 5]]
    make_rec(folder / "x.rec", labels, ("a.jpg", "b.jpg", "c.jpg"))
    return [{path.name: path.read_bytes() for path in folder.iterdir()}]


def made(make: object) -> object:
    """Seeds that are written into a folder, as contents."""

    def seeds() -> Sequence[Files]:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            return make(Path(folder))  # type: ignore[operator]

    return seeds


REC_WORDS = (b"\x0a\x23\xd7\xce", b"\x0a\x23\xd7\xce\0\0\0\x20", b"\x0a\x23\xd7\xce\xff\xff\xff\x1f")
TARGETS = [
    Target(
        "image headers",
        lambda: [*jpegs(), *pngs(), *tiffs(), *others()],
        headers,
        {".png": in_png},
        words=WORDS,
        names_file=False,
    ),
    Target("JPEG", jpegs, decode, words=WORDS),
    Target("PNG", pngs, decode, {".png": in_png}, words=WORDS),
    Target("TIFF", tiffs, decode, words=WORDS),
    Target("GIF, WebP, BMP, JPEG 2000, AVIF, PNM", others, decode, words=WORDS),
    Target("zip of pictures", zips, unpack, {".zip": in_zip({".png": in_png})}),
    Target("tar of pictures", tars, unpack, {".tar": in_tar, ".gz": in_tar, ".bz2": in_tar, ".xz": in_tar}),
    Target("RecordIO", made(records), unpack, {".idx": in_rows, ".lst": in_rows}, words=REC_WORDS),
]
