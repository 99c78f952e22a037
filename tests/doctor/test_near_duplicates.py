"""Copies of pictures: what is one picture for a person is found, and frames in which something moved are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from singleshot.demo.scenes import make_scenes
from singleshot.doctor import near_duplicates
from singleshot.doctor.near_duplicates import confirm_twins, find_twins, make_thumbnails
from singleshot.images.read import read_image, write_image

Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = make_scenes(tmp_path_factory.mktemp("data") / "scenes", count=1, seed=3, size_hw=(240, 320))
    return read_image(next((folder / "JPEGImages").glob("*.jpg")))


def compressed(pixels: np.ndarray) -> np.ndarray:
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def moved(pixels: np.ndarray) -> np.ndarray:
    """A black thing of a tenth of the width and height."""
    changed = pixels.copy()
    changed[100:136, 100:148] = 0
    return changed


def gone(pixels: np.ndarray) -> np.ndarray:
    """Something small is not there any more, where four cells of a small thumbnail meet."""
    changed = pixels.copy()
    place = np.s_[94:101, 95:105]
    changed[place] = np.clip(changed[place] + 90.0, 0, 235) if changed[place].mean() < 128 else changed[place] * 0.4
    return changed


CASES: dict[str, tuple[Change, bool]] = {
    "itself": (lambda x: x, True),
    "compressed": (compressed, True),
    "half": (lambda x: cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), True),
    "brighter": (lambda x: np.clip(x * 1.15 + 10.0, 0, 255).astype(np.uint8), True),
    "darker": (lambda x: (x * 0.8).astype(np.uint8), True),
    "moved": (moved, False),
    "gone": (gone, False),
    "mirrored": (lambda x: np.ascontiguousarray(x[:, ::-1]), False),
    "turned": (lambda x: np.ascontiguousarray(x[::-1, ::-1]), False),
}


def test_nothing_has_no_copies() -> None:
    assert confirm_twins(find_twins(make_thumbnails([])), []) == []


@pytest.mark.parametrize("name", CASES)
def test_pairs(photo: np.ndarray, tmp_path: Path, name: str) -> None:
    change, same = CASES[name]
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, pixels in zip(paths, (photo, change(photo)), strict=True):
        write_image(path, pixels)
    alike = find_twins(make_thumbnails(paths))
    assert bool(alike) == (same or name == "gone")  # which a thumbnail of 32 x 32 does not show
    twins = confirm_twins(alike, paths)
    assert [(pair.first, pair.second, pair.exact) for pair in twins] == [(0, 1, name == "itself")] * same


def test_plain_and_broken_pictures_are_no_copies(tmp_path: Path) -> None:
    for name, grey in (("a", 10), ("b", 200)):
        write_image(tmp_path / f"{name}.png", np.full((20, 20, 3), grey, np.uint8))
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    thumbnails = make_thumbnails([tmp_path / f"{name}.png" for name in "abc"])
    assert [problem.file.name for problem in thumbnails.problems] == ["c.png"]
    assert find_twins(thumbnails) == []


def test_a_camera_that_stands_still_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_PAIRS", 5)
    monkeypatch.setattr(near_duplicates, "PAIRS_AT_ONCE", 2)
    frame = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    digests = tuple(bytes([index]) for index in range(30))
    still = near_duplicates.Thumbnails(np.stack([frame] * 30), digests, ())
    assert 5 <= len(near_duplicates.find_twins(still)) <= 7
