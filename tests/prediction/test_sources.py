"""Files, folders and globs to images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from singleshot.errors import ImageError
from singleshot.images.read import write_image
from singleshot.prediction.not_images import check_readable, other_file
from singleshot.prediction.output_folder import ResultFolder
from singleshot.prediction.sources import find_images, is_many, search_images


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
    with pytest.raises(ImageError, match="recursive=True"):
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


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", r'the source "" is empty'),
        ("  ", "is empty"),
        ("a\0b.jpg", "zero byte"),
        ("https://example.org/a.jpg", r"https://example\.org/a\.jpg: addresses are not fetched"),
        ("https://example.org/*.jpg", "are not fetched"),
        ("s3://bucket/a.jpg", r"s3://bucket/a\.jpg: addresses are not fetched"),
        ("rtsp://camera", "are not fetched"),
        ("data:image/png;base64,iVBORw0KGgo=", "are not fetched"),
        ("file:///tmp/a%20b.jpg", r"file:///tmp/a%20b\.jpg: .* write the path, /tmp/a b\.jpg"),
        ("~/a.jpg", r"~/a\.jpg: the shell did not expand '~': write /.*/a\.jpg"),
        ("x" * 5000, "no such file"),
        (b"a.jpg", "os.fsdecode"),
    ],
)
def test_what_is_typed_like_a_file(source: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for sources in (source, [source]):
        with pytest.raises(ImageError, match=message):
            find_images(sources if not isinstance(sources, bytes) else [sources])


def test_a_file_that_exists_is_taken_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~", "a*b.jpg", "[1].jpg", "https:"):
        Path(name).touch()
        assert find_images(name) == [Path(name)]
        assert not is_many(name)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("trip [2024]", ["a.jpg", "b [1].jpg"]),
        ("trip [2024]/a.jpg", ["a.jpg"]),
        ("trip [2024]/*.jpg", ["a.jpg", "b [1].jpg"]),
        ("trip [2024]/b [[]1].jpg", ["b [1].jpg"]),
        ("trip [[]2024]/*.jpg", ["a.jpg", "b [1].jpg"]),
        ("trip 2/*.jpg", ["c.jpg"]),
        ("trip [0-9]/*.jpg", ["c.jpg"]),
    ],
)
def test_brackets_are_meant_as_they_are_where_they_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, expected: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("trip [2024]/a.jpg", "trip [2024]/b [1].jpg", "trip 2/c.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert [path.name for path in find_images(source)] == expected


def test_brackets_that_match_nothing_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trip [2024]").mkdir()
    Path("trip [2024]/a.jpg").touch()
    with pytest.raises(ImageError, match=r"did you mean trip \[2024\]/a\.jpg"):
        find_images("trip [2024]/b.jpg")
    with pytest.raises(ImageError, match=r"brackets .* write 'trop \[\[\]2024\]/\*\.jpg'"):
        find_images("trop [2024]/*.jpg")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with everything that is not simply a photo."""
    root = tmp_path / "photos"
    for name in (
        "a.jpg",
        "sub/b.jpg",
        ".trash/old.jpg",
        "sub/.thumbnails/b.jpg",
        ".hidden.jpg",
        "results/images/a.jpg",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/c.jpg").touch()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "sub/round").symlink_to(root)
    (root / "broken.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(root / "pipe.jpg")
    with ResultFolder(root / "results", overwrite=True) as results:
        results.claim(Path("images/a.jpg"))
    return root


def test_what_a_folder_holds_besides_photos_is_told(odd: Path) -> None:
    found = search_images(odd, recursive=True)
    assert names(found.images, odd) == ["a.jpg", "broken.jpg", "linked/c.jpg", "sub/b.jpg"]
    told = "\n".join(found.notes)
    for part in (".trash", ".thumbnails", ".hidden.jpg", "round", "pipe.jpg", "results"):
        assert part in told
    assert found.missed == []
    flat = search_images(odd)
    assert names(flat.images, odd) == ["a.jpg", "broken.jpg"]
    assert any("recursive=True" in note and "sub" in note for note in flat.notes)


def test_files_of_images_in_a_folder_are_named(photos: Path) -> None:
    for name in ("a.zip", "b.tar.gz", "c.rec"):
        (photos / name).touch()
    (note,) = (note for note in search_images(photos).notes if "holds images" in note)
    assert all(name in note for name in ("a.zip", "b.tar.gz", "c.rec"))


def test_hidden_folders_are_searched_when_they_are_named(odd: Path) -> None:
    assert names(find_images(odd / ".trash"), odd) == [".trash/old.jpg"]
    assert names(find_images(str(odd / ".trash" / "*.jpg")), odd) == [".trash/old.jpg"]
    assert names(find_images(odd / "results" / "images"), odd) == ["results/images/a.jpg"]


def test_patterns_leave_results_alone_and_go_round_once(odd: Path) -> None:
    found = search_images(str(odd / "**" / "*.jpg"))
    assert sorted(path.name for path in found.images) == ["a.jpg", "b.jpg", "broken.jpg", "c.jpg", "pipe.jpg"]
    assert any("results" in note for note in found.notes)


def test_a_file_named_twice_is_told(odd: Path) -> None:
    found = search_images([odd / "a.jpg", odd / "sub" / ".." / "a.jpg", odd / "sub/round/a.jpg"])
    assert found.images == [odd / "a.jpg"]
    assert any("named twice" in note for note in found.notes)


def test_folders_that_cannot_be_read_are_missed_not_forgotten(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = search_images(odd, recursive=True)
    assert names(found.images, odd) == ["a.jpg", "broken.jpg", "linked/c.jpg"]
    assert found.missed == [f"{odd / 'sub'}: cannot be searched: Permission denied"]
    with pytest.warns(UserWarning, match="Permission denied"):
        find_images(odd, recursive=True)
    with pytest.raises(ImageError, match="Permission denied"):
        find_images(odd / "sub")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip.mp4", "is a video"),
        ("photos.zip", "holds images, and is none: name it alone"),
        ("photos.7z", "is packed in a way that is not read"),
        ("list.txt", "is text"),
        ("labels.json", "holds labels"),
        ("pipe", "pipe or a device"),
        ("broken", "is a link to nowhere, which does not exist"),
    ],
)
def test_other_files_are_told_by_what_they_are(tmp_path: Path, name: str, message: str) -> None:
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    elif name == "broken":
        path.symlink_to("nowhere")
    else:
        path.write_bytes(b"something")
    with pytest.raises(ImageError, match=message):
        check_readable(path)


def test_an_image_may_have_any_suffix(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 5, 3), np.uint8))
    (tmp_path / "a.png").rename(tmp_path / "a.txt")
    check_readable(tmp_path / "a.txt")
    check_readable(tmp_path / "missing.mp4")
    assert other_file(tmp_path / "a.txt") is None


def test_photos_beside_results_are_no_results(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    with ResultFolder(photos) as results:
        for name in ("images/a.jpg", "crops/cat/a_1.jpg"):
            target = results.claim(Path(name))
            target.parent.mkdir(parents=True)
            target.touch()
    with pytest.raises(ImageError, match=r"results of an earlier run\): .*photos/crops/cat, .*photos/images"):
        find_images(photos, recursive=True)
    (photos / "a.jpg").touch()
    (photos / "images" / "mine.jpg").touch()
    for source in (photos, tmp_path, f"{tmp_path}/**/*.jpg"):
        found = search_images(source, recursive=True)
        assert names(found.images, photos) == ["a.jpg", "images/mine.jpg"]
        assert "photos/crops/cat" in found.notes[0]
    assert len(find_images(photos / "images")) == 2  # was asked for


def test_a_link_to_itself_costs_nothing_else(photos: Path) -> None:
    for name in ("self", "self.png"):
        (photos / name).symlink_to(name)
    assert "b.png" in names(find_images(photos), photos)
