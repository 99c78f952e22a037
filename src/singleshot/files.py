"""Where files go, and writing them so that a crash or a full disk never leaves half of one in place of a good one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads and what is compiled are kept: ``SINGLESHOT_CACHE``, else ``singleshot`` in the user's cache."""
    if os.environ.get("SINGLESHOT_CACHE"):
        return Path(os.environ["SINGLESHOT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "singleshot"


def write_atomically(path: str | Path, content: bytes | str, mode: int | None = None) -> Path:
    """Write a file by way of a temporary neighbour and a rename; missing folders are made.

    Args:
        path: the file.
        content: bytes, or text that is written as UTF-8.
        mode: permissions; ``None`` leaves them to the umask.

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
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path
