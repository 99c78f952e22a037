"""Sources that a text file lists."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from singleshot.errors import ImageError
from singleshot.prediction.source_lists import is_list, read_source_list
from singleshot.prediction.sources import find_images, is_many, search_images


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos below ``far``, where the lists are, and below the current folder."""
    for name in ("far/a.jpg", "far/sub/b.jpg", "far/ä #1.jpg", "far/@c.jpg", "here.jpg", "a.jpg", "p 1.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with zipfile.ZipFile(tmp_path / "far/z.zip", "w") as packed:
        packed.writestr("in/d.jpg", b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n  \r\n"])
def test_a_list_of_nothing_is_refused(content: str) -> None:
    Path("l.txt").write_text(content)
    with pytest.raises(ImageError, match=r"l\.txt: lists no source: write one a line"):
        find_images("@l.txt")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.jpg", ["far/a.jpg"]),  # there, not here
        ("here.jpg", ["here.jpg"]),
        ("sub", ["far/sub/b.jpg"]),
        ("sub/*.jpg", ["far/sub/b.jpg"]),
        ("p*.jpg", ["p 1.jpg"]),
        ("ä #1.jpg", ["far/ä #1.jpg"]),
        ("  a.jpg \t", ["far/a.jpg"]),
        ("@c.jpg", ["far/@c.jpg"]),
        ("z.zip", ["far/z.zip/in/d.jpg"]),
        ("z.zip/in/d.jpg", ["far/z.zip/in/d.jpg"]),
        ("z.zip/*/d.jpg", ["far/z.zip/in/d.jpg"]),
    ],
)
def test_each_line_is_a_source(line: str, expected: list[str]) -> None:
    Path("far/l.txt").write_text(f"# photos\n\n{line}\n", encoding="utf-8")
    assert [path.as_posix() for path in find_images("@far/l.txt")] == expected
    assert is_many("@far/l.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_of_any_editor(encoding: str, end: str) -> None:
    Path("far/l.txt").write_bytes(end.join(["ä #1.jpg", "a.jpg"]).encode(encoding))
    assert find_images("@far/l.txt") == [Path("far/ä #1.jpg"), Path("far/a.jpg")]


def test_absolute_paths(here: Path) -> None:
    Path("far/l.txt").write_text(str(here / "here.jpg"))
    assert find_images("@far/l.txt") == [here / "here.jpg"]


def test_what_is_missing_is_named_and_the_rest_is_done() -> None:
    Path("l.txt").write_text("a.jpg\nb.jpg\nfar/a.jpg\na.jpg\nhttps://example.org/x.jpg\n")
    found = search_images("@l.txt")
    assert found.images == [Path("a.jpg"), Path("far/a.jpg")]
    assert [line.split(": ")[0] for line in found.missed] == ["l.txt, line 2", "l.txt, line 5"]
    assert found.missed[0].startswith("l.txt, line 2: b.jpg: no such file or folder; did you mean a.jpg?")
    assert any("named twice" in note for note in found.notes)
    Path("l.txt").write_text("".join(f"{number}.png\n" for number in range(9)))
    with pytest.raises(ImageError, match=r"line 1: 0\.png: no such .*line 5: .*; and 4 more$"):
        find_images("@l.txt")


def test_what_is_no_list() -> None:
    Path("@x.jpg").touch()
    assert not is_list("@x.jpg")
    assert not is_list("@")
    assert find_images("@x.jpg") == [Path("@x.jpg")]
    with pytest.raises(ImageError, match=r"nowhere\.txt: the list cannot be read: No such file"):
        find_images("@nowhere.txt")
    with pytest.raises(ImageError, match=r"^far: is not an ordinary file"):
        find_images("@far")
    Path("binary").write_bytes(b"\x89PNG\r\n\0\0\0\0\0\0")
    with pytest.raises(ImageError, match="binary: is no text file, and '@' asks for a list"):
        find_images("@binary")
    Path("l.txt").write_text("a.jpg\n@m.txt\n")
    with pytest.raises(ImageError, match=r"l\.txt, line 2: a list inside a list, @m\.txt"):
        read_source_list("@l.txt")


def test_a_pattern_of_a_thousand_folders(here: Path) -> None:
    Path("l.txt").write_text("far/a.jpg\n" + "*/" * 1000 + "*.jpg\n")
    found = search_images("@l.txt")
    assert [path.name for path in found.images] == ["a.jpg"]
    (missed,) = found.missed
    assert "l.txt, line 2: */*/" in missed
    assert "a pattern of more than 100 folders" in missed
