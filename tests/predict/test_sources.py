"""Files, folders and globs to images."""

from __future__ import annotations

from pathlib import Path

import pytest

from singleshot.errors import ImageError
from singleshot.predict.sources import find_images, is_many


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("10.jpg", "2.JPG", "b.png", "notes.txt", ".hidden.jpg", "sub/3.jpg", "sub/deep/1.webp", "x[1].jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    return tmp_path / "photos"


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_folder_in_natural_order(photos: Path) -> None:
    assert names(find_images(photos), photos) == ["2.JPG", "10.jpg", "b.png", "x[1].jpg"]


def test_subfolders_when_asked(photos: Path) -> None:
    found = names(find_images(photos, recursive=True), photos)
    assert found == ["2.JPG", "10.jpg", "b.png", "sub/3.jpg", "sub/deep/1.webp", "x[1].jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["10.jpg", "x[1].jpg"]),
        ("**/*.jpg", ["10.jpg", "sub/3.jpg", "x[1].jpg"]),
        ("x[1].jpg", ["x[1].jpg"]),
        ("notes.txt", ["notes.txt"]),
    ],
)
def test_globs_and_files(photos: Path, pattern: str, expected: list[str]) -> None:
    assert names(find_images(str(photos / pattern)), photos) == expected


def test_no_file_comes_twice(photos: Path) -> None:
    found = find_images([photos / "b.png", photos, photos / "sub" / ".." / "10.jpg"])
    assert names([path.resolve() for path in found], photos.resolve()) == ["b.png", "2.JPG", "10.jpg", "x[1].jpg"]


def test_results_are_not_found_again(photos: Path) -> None:
    assert "sub/3.jpg" not in names(find_images(photos, recursive=True, exclude=photos / "sub"), photos)
    assert names(find_images(photos / "sub", exclude=photos), photos) == ["sub/3.jpg"]


def test_what_holds_nothing_is_named(photos: Path) -> None:
    empty = photos.parent / "empty"
    with pytest.raises(ImageError, match=r"empty: holds no image \(\.jpg .*\.png"):
        find_images(empty)
    (empty / "deep").mkdir()
    (empty / "deep" / "a.png").touch()
    with pytest.raises(ImageError, match="--recursive"):
        find_images(empty)
    with pytest.raises(ImageError, match=r"\*\.gif: the pattern matches no file"):
        find_images(str(photos / "*.gif"))
    with pytest.raises(ImageError, match=r"did you mean .*photos"):
        find_images(photos.parent / "photo")
    with pytest.raises(ImageError, match="no source"):
        find_images([])


def test_one_or_many(photos: Path) -> None:
    assert is_many(photos)
    assert is_many(str(photos / "*.jpg"))
    assert not is_many(photos / "x[1].jpg")
    assert not is_many("missing.jpg")
