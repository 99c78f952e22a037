"""Output names: below their folder, of a length that can be written, and different on every file system."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singleshot.prediction.output_names import MAX_NAME_BYTES, OutputNames, folder_names, places, safe_name, shortened


def key(path: Path) -> str:
    """What a file system that ignores case and accents' form takes a path for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def test_no_image() -> None:
    assert places([]) == []
    assert folder_names([]) == []
    assert OutputNames([]).relative(Path("a/b.jpg")) == Path("b.jpg")


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (["/a/1.jpg"], ["1.jpg"]),
        (["/a/1.jpg", "/a/b/1.jpg"], ["1.jpg", "b/1.jpg"]),
        (["/a/b/1.jpg", "/a/c/1.jpg"], ["b/1.jpg", "c/1.jpg"]),
        (["/1.jpg", "/b/2.jpg"], ["1.jpg", "b/2.jpg"]),
        (["/a/b/1.jpg", "/a/b/../../c/1.jpg"], ["a/b/1.jpg", "c/1.jpg"]),
    ],
)
def test_places(images: list[str], expected: list[str]) -> None:
    assert [path.as_posix() for path in places([Path(image) for image in images])] == expected


def test_dots_in_a_source_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home/project").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home/project")
    names = OutputNames([Path("photos/2.jpg"), Path("../../photos/1.jpg")])
    assert names.picture(Path("../../photos/1.jpg")) == Path("photos/1.jpg")
    assert names.crop(Path("photos/2.jpg"), 3) == Path("home/project/photos/2_3.jpg")
    assert names.relative(Path("../unheard/of.jpg")) == Path("of.jpg")


def test_drives_become_folders() -> None:
    found = places([PureWindowsPath("C:\\a\\1.jpg"), PureWindowsPath("D:\\a\\1.jpg")])
    assert len(set(found)) == 2
    assert not any(path.is_absolute() or ":" in str(path) or "\\" in str(path) for path in found)
    raw = places([PurePosixPath("/a/../../x.jpg"), PurePosixPath("/b.jpg")])
    assert all(".." not in path.parts for path in raw)


@pytest.mark.parametrize(
    "images",
    [
        ["x.webp", "x.webp.jpg"],
        ["x.webp.jpg", "x.webp"],
        ["x.tif", "x.TIF", "x.tif.jpg", "X.tif.jpg-2.jpg"],
        ["a.jpg", "a.JPG", "A.jpg", "a-2.jpg", "a-2.JPG"],
        ["Dir/a.jpg", "dir/a.jpg", "dir/A.jpg"],
        ["x.webp", "x.webp.jpg/inside.jpg"],
        ["caf\u00e9.jpg", "cafe\u0301.jpg"],
        ["stra\u00dfe.jpg", "STRASSE.jpg"],
        ["a.jpg", "a_1.jpg", "a_1_1.jpg", "a.png"],
        ["n" * 251 + ".jpg", "n" * 251 + ".JPG", "n" * 251 + ".tif", "n" * 250 + ".tif"],
        ["\u65e5" * 83 + ".jpg", "\u65e5" * 83 + ".png"],
        ["caf\udce9.jpg", "caf\udce8.jpg"],
    ],
)
def test_different_images_have_different_names(images: list[str]) -> None:
    paths = [Path("/photos", image) for image in images]
    names = OutputNames(paths)
    pictures = [names.picture(path) for path in paths]
    crops = [names.crop(path, number) for path in paths for number in (1, 2, 11)]
    wide = [names.picture(path, ".png") for path in paths]
    for found in ([*pictures, *wide], crops):
        assert len({key(path) for path in found}) == len(found)
        folders = {key(folder) for path in found for folder in path.parents}
        assert not folders & {key(path) for path in found}
        assert all(len(os.fsencode(part)) <= MAX_NAME_BYTES for path in found for part in path.parts)
    assert [names.picture(path) for path in paths] == pictures


def test_plain_names_stay() -> None:
    paths = [Path("/photos", name) for name in ("a.webp", "a.webp.jpg", "b.jpeg", "c 1.png", "ü.JPG")]
    names = OutputNames(paths)
    assert [str(names.picture(path)) for path in paths] == [
        "a.webp-2.jpg", "a.webp.jpg", "b.jpeg", "c 1.png", "ü.JPG",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "_"),
        (".", "_"),
        ("..", "_"),
        ("../../etc", "_.._etc"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\x", "C__x"),
        ("a/b", "a_b"),
        ("trailing. . ", "trailing"),
        ("con", "_con"),
        ("LPT1.txt", "_LPT1.txt"),
        ("tab\there\n", "tab_here_"),
        ("犬", "犬"),
        ("traffic light", "traffic light"),
    ],
)
def test_any_text_is_one_part(name: str, expected: str) -> None:
    assert safe_name(name) == expected


@given(st.lists(st.text(max_size=400), max_size=8, unique=True))
def test_classes_have_folders_of_their_own(classes: list[str]) -> None:
    folders = folder_names(classes)
    assert len({key(Path(folder)) for folder in folders}) == len(classes)
    for folder in folders:
        assert len(Path(folder).parts) == 1
        assert folder not in (".", "..")
        assert len(os.fsencode(folder)) <= MAX_NAME_BYTES


def test_long_names_keep_beginning_and_suffix() -> None:
    short = shortened("x" * 300 + ".jpg", 100)
    assert (len(short), short[:20], short[-4:]) == (100, "x" * 20, ".jpg")
    assert shortened("x" * 300 + ".jpg", 100) != shortened("x" * 301 + ".jpg", 100)
    assert shortened("short.jpg", 100) == "short.jpg"
