from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from singleshot.files import cache_folder, write_atomically


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
