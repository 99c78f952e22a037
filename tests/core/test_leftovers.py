"""What a killed run leaves is gone with the next one; what is in the making is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from singleshot.core import filled_folder, leftovers
from singleshot.core.files import write_atomically
from singleshot.core.leftovers import hidden_file, hidden_folder, is_hidden, sole_writer
from singleshot.errors import DataError, OutputError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no locks of POSIX")

KILLED = """
import os, signal
from pathlib import Path
from singleshot.core.leftovers import hidden_file, hidden_folder
folder = Path({folder!r})
with hidden_file(folder) as (path, file), hidden_folder(folder) as inner:
    (inner / "part").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_run_left_goes_and_what_is_held_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, "-c", KILLED.format(folder=str(tmp_path))], check=False)
    assert len(names(tmp_path)) == 2
    assert all(map(is_hidden, names(tmp_path)))
    (tmp_path / ".singleshot-mine.tmp").write_text("not of this form")
    monkeypatch.setattr(leftovers, "_swept", set())
    with hidden_file(tmp_path) as (path, _), hidden_folder(tmp_path) as folder:
        monkeypatch.setattr(leftovers, "_swept", set())
        write_atomically(tmp_path / "new", "x")
        assert names(tmp_path) == sorted([path.name, folder.name, "new", ".singleshot-mine.tmp"])
    assert names(tmp_path) == [".singleshot-mine.tmp", "new"]


def test_where_there_are_no_locks_nothing_is_refused_or_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(handle: int, how: int) -> None:
        raise OSError(9, "Bad file descriptor")

    (tmp_path / ".singleshot-0123456789abcdef.tmp").touch()
    monkeypatch.setattr(leftovers.fcntl, "flock", none)
    with sole_writer(tmp_path), hidden_folder(tmp_path), hidden_file(tmp_path):
        assert len(names(tmp_path)) == 3
    assert len(names(tmp_path)) == 1


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with sole_writer(tmp_path):
        with pytest.raises(OutputError, match="another run is writing there"), sole_writer(tmp_path):
            pass
        with pytest.raises(OutputError, match="another run"), filled_folder.filled_folder(tmp_path):
            pass
    with sole_writer(tmp_path):
        pass


@pytest.mark.parametrize("moves", range(6))
def test_a_kill_while_a_folder_is_replaced_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Whatever rename it falls before: it shows, and the old content can be had back."""
    path = tmp_path / "data"
    for name in ("one", "two"):
        write_atomically(path / name / "x", "old")
    before = [path / name for name in ("one", "two")]
    new = path / ".singleshot-0123456789abcdef.tmp"
    for name in ("two", "three"):
        write_atomically(new / name / "x", "new")
    rename, left = Path.rename, [moves]

    def killed(self: Path, target: Path) -> Path:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        filled_folder._replace(path, before, new)
    monkeypatch.undo()
    assert filled_folder.is_half_replaced(path)
    from singleshot.data.recognise import recognise

    with pytest.raises(DataError, match="is being replaced"):
        recognise(path)
    assert filled_folder.restore_folder(path)
    assert [name for name in names(path) if not is_hidden(name)] == ["one", "two"]
    assert (path / "two" / "x").read_text() == "old"
    assert not filled_folder.restore_folder(path)
