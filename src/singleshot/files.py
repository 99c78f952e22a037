"""Writing files so that a crash or a full disk never leaves half of one in place of a good one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: str | Path, content: bytes | str) -> Path:
    """Write a file by way of a temporary neighbour and a rename; missing folders are made.

    Args:
        path: the file.
        content: bytes, or text that is written as UTF-8.

    Returns:
        The path.

    Raises:
        OSError: the folder cannot be made or written; the old file, if any, is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _umask() -> int:
    """The process's umask; ``mkstemp`` ignores it and makes files private."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
