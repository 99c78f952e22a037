"""Writing files so that a crash or a full disk never leaves half of one in place of a good one."""

from __future__ import annotations

import secrets
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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path
