"""A folder that is filled in whole or not at all, whatever ends the process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from singleshot.core.leftovers import hidden_folder, hidden_path, is_hidden, sole_writer

OLD = ".singleshot-old"
"""In a folder: what was there before, all of it, while the new content comes in."""

LEAVING = ".singleshot-old.part"
"""The same, while it is still put there."""


@contextmanager
def filled_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder in whole or not at all: what is written to the yielded folder takes the place of its content.

    Ask `check_output_folder` first. After an error the folder is as it was; one that did not exist is gone again. After
    a kill it is as it was once `restore_folder` was there.

    Raises:
        OutputError: another run is writing there.
        OSError: the folder cannot be made or written; names the file.
    """
    path = Path(path)
    made = not path.is_dir()
    path.mkdir(parents=True, exist_ok=True)
    try:
        with sole_writer(path), hidden_folder(path) as new:
            before = _content(path)
            yield new
            try:
                _replace(path, before, new)
            except BaseException:
                _restore(path)
                raise
    except BaseException:
        with suppress(OSError):
            if made:
                path.rmdir()
        raise


def restore_folder(path: str | os.PathLike[str]) -> bool:
    """Put back what was in a folder before a run that was killed while it replaced that; whether there was any.

    Raises:
        OutputError: the run is at work.
        OSError: something cannot be moved; names it.
    """
    path = Path(path)
    if not is_half_replaced(path):
        return False
    with sole_writer(path):
        _restore(path)
    return True


def is_half_replaced(path: str | os.PathLike[str]) -> bool:
    """Whether a folder's content is being replaced, or was when the run was killed: it is of no use so."""
    return any(os.path.lexists(os.path.join(path, name)) for name in (OLD, LEAVING))


def _content(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.name not in (OLD, LEAVING) and not is_hidden(entry.name)]


def _replace(path: Path, before: list[Path], new: Path) -> None:
    """Move the old content away and the new one in, so that it shows at any moment which of the two is whole."""
    leaving, old = path / LEAVING, path / OLD
    leaving.mkdir()
    for entry in before:
        entry.rename(leaving / entry.name)
    leaving.rename(old)
    for entry in list(new.iterdir()):
        entry.rename(path / entry.name)
    gone = old.rename(hidden_path(path))
    shutil.rmtree(gone, ignore_errors=True)


def _restore(path: Path) -> None:
    leaving, old = path / LEAVING, path / OLD
    if old.is_dir():
        for entry in _content(path):  # the new
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        old.rename(leaving)
    for entry in list(leaving.iterdir()) if leaving.is_dir() else ():
        entry.rename(path / entry.name)
    with suppress(FileNotFoundError):
        leaving.rmdir()
