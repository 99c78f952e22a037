"""Pictures: each is what it shows, or is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from singleshot.errors import ImageError
from singleshot.images.lettering import text_plate
from singleshot.images.read import image_size, read_image


def _differs(path: Path, expected: Path) -> int:
    image, wanted = read_image(path).astype(int), read_image(expected).astype(int)
    assert image.shape == wanted.shape
    assert image_size(path) == image.shape[:2]
    return int(np.abs(image - wanted).max())


def _shows(pattern: str, expected: str, tolerance: int) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        paths = sorted(folder.glob(pattern))
        assert paths
        assert max(_differs(path, folder / expected) for path in paths) <= tolerance

    return check


def _camera_raw(folder: Path) -> None:
    assert _differs(folder / "thumbnail_first.tif", folder / "expected.png") == 0
    with pytest.raises(ImageError, match=r"photo\.dng: is a camera's raw file: develop it"):
        read_image(folder / "photo.dng")


def _jpeg_without_end(folder: Path) -> None:
    for name in ("pano.jpg", "noeoi.jpg"):
        assert _differs(folder / name, folder / "expected.png") <= 30
    with pytest.raises(ImageError, match=r"half\.jpg: the JPEG is cut off"):
        read_image(folder / "half.jpg")


def _pnm(folder: Path) -> None:
    for path in folder.glob("*.p[gp]m"):
        expected = "expected_gray.png" if path.name.startswith("gray") else "expected_colour.png"
        assert _differs(path, folder / expected) <= 1


def _transparency(folder: Path) -> None:
    pairs = {"gray_alpha16.tif": "gray", "gray_alpha8.tif": "gray", "gray_trns.png": "gray_trns"}
    for name, kind in (pairs | {"rgba.avif": "colour", "rgba.jp2": "colour"}).items():
        assert _differs(folder / name, folder / f"expected_{kind}.png") <= 12, name


def _opencv(folder: Path) -> None:
    """With the OpenCV that is installed; the suite runs with the oldest and the newest."""
    out = folder / "out"
    run = [
        sys.executable,
        "-m",
        "singleshot",
        "predict",
        str(folder / "cat.jpg"),
        "--backend",
        "torch",
        "--out",
        str(out),
    ]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plates = {name: text_plate(f"{name} 0.87", 0.5, 3, (0, 0, 0), (255, 255, 255)).tobytes() for name in ("犬", "猫")}
    assert len(set(plates.values())) == 2


def _png_bomb(folder: Path) -> None:
    subprocess.run([sys.executable, "gen.py"], cwd=folder, check=True)
    (path,) = (path for path in folder.iterdir() if path.suffix == ".png")
    code = f"from singleshot.images.read import read_image; print(read_image({str(path)!r}).shape)"
    limit = 2 * 2**30

    import resource

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=bound, capture_output=True, text=True, env=environment
    )
    assert done.stdout == "(13377, 13377, 3)\n", done.stderr


def _png_claims(folder: Path) -> None:
    with pytest.raises(ImageError, match=r"x\.png: the PNG is cut off"):
        read_image(folder / "x.png")


CASES: dict[str, Callable[[Path], None]] = {
    "cases-predict/avif-turned": _shows("*.avif", "expected.png", 20),
    "cases-predict/camera-raw": _camera_raw,
    "cases-predict/jpeg-without-end-marker": _jpeg_without_end,
    "cases-predict/opencv-of-the-declared-range": _opencv,
    "cases-predict/pnm-maxval": _pnm,
    "cases-predict/tiff-16bit-planes": _shows("*.tif", "expected.png", 0),
    "cases-predict/tiff-fourth-band": _shows("*.tif", "expected.png", 0),
    "cases-predict/transparency-of-other-kinds": _transparency,
    "cases-trust/png-16bit-rgba-6-gb": _png_bomb,
    "cases-trust/png-claims-4-gb": _png_claims,
}
