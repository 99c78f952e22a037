"""Reading and writing files safely: no half file in place of a good one, and none that is the user's own replaced."""

from __future__ import annotations

import codecs
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from singleshot.errors import OutputError

_BYTE_ORDER_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
LEGACY_ENCODING = "cp1252"
"""What a text is taken for that is neither marked nor UTF-8: the usual encoding of old Windows tools in the West."""

MAX_TEXT_BYTES = 64 * 2**20


class Text(NamedTuple):
    """A decoded text file.

    Attributes:
        text: its content, without a byte order mark; line ends as in the file.
        encoding: Python's name of the encoding.
        guessed: whether nothing in the file said so (neither a mark nor valid UTF-8).
    """

    text: str
    encoding: str
    guessed: bool = False


def decode_text(data: bytes) -> Text:
    """Decode text by its byte order mark, else as UTF-8, else as UTF-16 without a mark, else as `LEGACY_ENCODING`.

    Raises:
        UnicodeDecodeError: the mark promises an encoding that the rest is not in, or this is no text.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return Text(data.decode(encoding), encoding)
    if b"\0" in data[:1024]:  # text in one-byte encodings has none; every second byte of Western UTF-16 is one
        encoding = "utf-16-le" if data[:1024].find(b"\0") % 2 else "utf-16-be"
        text = data.decode(encoding)
        if "\0" in text:
            raise UnicodeDecodeError(encoding, data, 0, len(data), "the file is binary, not text")
        return Text(text, encoding, guessed=True)
    try:
        return Text(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        return Text(data.decode(LEGACY_ENCODING, errors="replace"), LEGACY_ENCODING, guessed=True)


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is (or links to) an ordinary file: opening a FIFO or a device may block for ever."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_bytes(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """The content of an ordinary file.

    Raises:
        OSError: it cannot be read, is no ordinary file, or is larger than ``max_bytes``; names the file.
    """
    path = os.fspath(path)
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path}: is not an ordinary file")
    with open(path, "rb") as file:
        data = file.read(min(status.st_size or 65536, max_bytes) + 1)  # what is asked for is reserved
    if len(data) > max_bytes:
        raise OSError(f"{path}: larger than {max_bytes:,} bytes")
    return data


def read_text(path: str | os.PathLike[str], max_bytes: int = MAX_TEXT_BYTES) -> Text:
    """Read a text file in whatever encoding a user's editor wrote it (`decode_text`).

    Raises:
        OSError: as `read_bytes`.
        UnicodeDecodeError: it is no text.
    """
    return decode_text(read_bytes(path, max_bytes))


def cache_folder() -> Path:
    """Where downloads and what is compiled are kept: ``SINGLESHOT_CACHE``, else ``singleshot`` in the user's cache."""
    if os.environ.get("SINGLESHOT_CACHE"):
        return Path(os.environ["SINGLESHOT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "singleshot"


def same_file(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to one file, through links, ``..`` and file systems that ignore case."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def check_output(
    path: str | os.PathLike[str], *, overwrite: bool = False, sources: Iterable[str | os.PathLike[str]] = ()
) -> Path:
    """Refuse to write over a file: over a source always, over any other file unless ``overwrite``.

    Args:
        path: the file to be written.
        overwrite: whether the user allowed files to be replaced.
        sources: files that this run reads.

    Returns:
        The path.

    Raises:
        OutputError: there is such a file; names it.
    """
    path = Path(path)
    if os.path.lexists(path):
        if any(same_file(path, source) for source in sources):
            raise OutputError(f"{path}: is a source of this run and would be overwritten: name another file")
        if path.is_dir():
            raise OutputError(f"{path}: is a folder: name a file")
        if not overwrite:
            raise OutputError(f"{path}: exists already: name another file, or allow it to be replaced (overwrite)")
    return path


def write_atomically(path: str | Path, content: bytes | str, mode: int | None = None) -> Path:
    """Write a file by way of a temporary neighbour and a rename; missing folders are made.

    An existing file is replaced: ask `check_output` first where it may be the user's own.

    Args:
        path: the file.
        content: bytes, or text that is written as UTF-8.
        mode: permissions; ``None`` leaves them to the umask.

    Returns:
        The path.

    Raises:
        OSError: the folder cannot be made or written; names the file. The old file, if any, is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # not the file's own name: that may be of full length
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise
    return path
