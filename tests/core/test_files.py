from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest

from singleshot.core.files import (
    cache_folder,
    check_output,
    decode_text,
    is_regular,
    read_bytes,
    read_text,
    write_atomically,
)
from singleshot.errors import OutputError


@pytest.mark.parametrize(("content", "stored"), [("", b""), ("grün", "grün".encode()), (b"\x00\r\n", b"\x00\r\n")])
def test_writes_what_it_is_given(content: bytes | str, stored: bytes, tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "new" / "folder" / "file.txt", content)
    assert path.read_bytes() == stored
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_failure_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomically(tmp_path / "file.txt", "old")

    def broken(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_what_replaces_a_file_is_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, forced = tmp_path / "x", []
    monkeypatch.setattr(os, "fsync", lambda handle: forced.append((os.fstat(handle).st_size, path.read_text())))
    write_atomically(path, "old")
    assert not forced  # a hundred thousand new label files would take minutes
    write_atomically(path, "newer")
    assert forced == [(5, "old")]
    assert path.read_text() == "newer"


@pytest.mark.parametrize(("code", "stays"), [(errno.EIO, True), (errno.EINVAL, False)])
def test_a_disk_that_does_not_take_it(code: int, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomically(tmp_path / "x", "old")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(code, "cannot")))
    with pytest.raises(OSError, match=r"cannot: '.*x'") if stays else nullcontext():
        write_atomically(path, "new")
    assert path.read_text() == ("old" if stays else "new")
    assert os.listdir(tmp_path) == ["x"]


def test_others_may_read_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = write_atomically(tmp_path / "file.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLESHOT_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("SINGLESHOT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/singleshot")


@pytest.mark.parametrize(
    ("data", "text", "encoding", "guessed"),
    [
        (b"", "", "utf-8", False),
        ("犬\n".encode(), "犬\n", "utf-8", False),
        ("cat".encode("utf-8-sig"), "cat", "utf-8-sig", False),
        ("犬, cat".encode("utf-16"), "犬, cat", "utf-16", False),
        ("cat".encode("utf-32"), "cat", "utf-32", False),
        ("cat\r\ndog".encode("utf-16-le"), "cat\r\ndog", "utf-16-le", True),
        ("cat".encode("utf-16-be"), "cat", "utf-16-be", True),
        ("Gerät".encode("cp1252"), "Gerät", "cp1252", True),
    ],
)
def test_text_of_any_editor(data: bytes, text: str, encoding: str, guessed: bool) -> None:
    assert decode_text(data) == (text, encoding, guessed)


def test_binary_is_no_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_text(b"\x89PNG\0\0\0\rIHDR\0\0")


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("12345")
    (tmp_path / "link.txt").symlink_to(tmp_path / "nowhere.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    assert read_text(tmp_path / "file.txt").text == "12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bytes(tmp_path / "file.txt", 4)
    for name in ("link.txt", "pipe.txt", "."):
        assert not is_regular(tmp_path / name)
        with pytest.raises(OSError, match=name if name != "." else "not an ordinary file"):
            read_text(tmp_path / name)


def test_no_output_over_a_source_or_an_unknown_file(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_text("mine")
    (tmp_path / "link.jpg").symlink_to(photo)
    assert check_output(tmp_path / "new.jpg", sources=[photo]) == tmp_path / "new.jpg"
    assert check_output(photo, overwrite=True) == photo
    for path in (photo, tmp_path / "x" / ".." / "photo.jpg", tmp_path / "link.jpg"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(OutputError, match="source of this run"):
            check_output(path, overwrite=True, sources=[photo])
    with pytest.raises(OutputError, match="exists already"):
        check_output(photo)
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path / "x", overwrite=True)


def test_a_name_of_full_length_can_be_written(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / ("n" * 251 + ".txt"), "x")
    assert path.read_text() == "x"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers that run as a number without a name."""

    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SINGLESHOT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", none)
    assert cache_folder() == Path("/.cache/singleshot")
