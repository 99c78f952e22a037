"""Files and folders in the making: hidden beside what they become, removed by the next run where theirs was killed.

Who makes something holds it by a lock (``flock``) that ends with its process, however that ends: what nobody holds is
left over. Where there are no such locks, what a killed run left stays.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from singleshot.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\.singleshot-[0-9a-f]{16}\.tmp")
_swept: set[str] = set()


def hidden_path(folder: Path) -> Path:
    """A new name, to be removed by `sweep` once nobody holds it; not the final one, which may be of full length."""
    return folder / f".singleshot-{secrets.token_hex(8)}.tmp"


def is_hidden(name: str) -> bool:
    """Whether `hidden_path` made a name."""
    return _NAME.fullmatch(name) is not None


@contextmanager
def hidden_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file, open, to be renamed when it is whole; gone at the end where it was not.

    Raises:
        OSError: it cannot be made.
    """
    sweep(folder)
    while True:
        path = hidden_path(folder)
        with path.open("xb") as file:
            if not _held(file.fileno(), path):
                continue
            try:
                yield path, file
            finally:
                if not fcntl:
                    file.close()  # it could not be removed otherwise
                path.unlink(missing_ok=True)
            return


@contextmanager
def hidden_folder(parent: Path) -> Iterator[Path]:
    """A new folder, gone at the end.

    Raises:
        OSError: it cannot be made.
    """
    sweep(parent)
    path, handle = _held_folder(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other processes, and other runs of this one, from writing into a folder at the same time.

    Raises:
        OutputError: one is at it.
    """
    handle = _opened(folder)
    try:
        if handle is not None and _locked(handle, wait=False) is False:
            raise OutputError(f"{folder}: another run is writing there: wait for it, or name another folder")
        yield
    finally:
        if handle is not None:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed runs left in a folder; looks once in a process."""
    key = os.path.abspath(folder)
    if key in _swept or not fcntl:
        return
    _swept.add(key)
    with suppress(OSError):
        for name in filter(is_hidden, os.listdir(folder)):
            _remove_unheld(folder / name)


def _remove_unheld(path: Path) -> None:
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if _locked(handle, wait=False):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        finally:
            os.close(handle)


def _opened(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if fcntl else None
    except PermissionError:  # it may be written all the same
        return None


def _held_folder(parent: Path) -> tuple[Path, int | None]:
    while True:
        path = hidden_path(parent)
        path.mkdir()
        try:
            handle = _opened(path)
        except FileNotFoundError:  # taken for left over before it was held
            continue
        if handle is None or _held(handle, path):
            return path, handle
        os.close(handle)


def _held(handle: int, path: Path) -> bool:
    """Hold what was just made; whether it is still there: another process may have taken it for left over."""
    _locked(handle, wait=True)
    try:
        return os.stat(path).st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _locked(handle: int, *, wait: bool) -> bool | None:
    """Whether a lock could be had; ``None`` where this file system has none (NFS has none of folders)."""
    if not fcntl:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
