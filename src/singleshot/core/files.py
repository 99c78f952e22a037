"""Reading and writing files safely: no half file in place of a good one, and none that is the user's own replaced."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from singleshot.core.leftovers import hidden_file, is_hidden
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
_PART_BYTES = 2**22


class DecodedText(NamedTuple):
    """A decoded text file.

    Attributes:
        text: its content, without a byte order mark; line ends as in the file.
        encoding: Python's name of the encoding.
        guessed: whether nothing in the file said so (neither a mark nor valid UTF-8).
    """

    text: str
    encoding: str
    guessed: bool = False


def decode_text(data: bytes) -> DecodedText:
    """Decode text by its byte order mark, else as UTF-8, else as UTF-16 without a mark, else as `LEGACY_ENCODING`.

    Raises:
        UnicodeDecodeError: the mark promises an encoding that the rest is not in, or this is no text.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return DecodedText(data.decode(encoding), encoding)
    sample = data[:1024]
    if 4 * sample.count(0) >= max(len(sample), 1):  # every second byte of Western UTF-16 is one
        encoding = "utf-16-le" if sample.find(b"\0") % 2 else "utf-16-be"
        text = data.decode(encoding)
        if "\0" in text:
            raise UnicodeDecodeError(encoding, data, 0, len(data), "the file is binary, not text")
        return DecodedText(text, encoding, guessed=True)
    try:
        return DecodedText(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        if b"\0" in sample:  # text in one-byte encodings has none
            raise
        return DecodedText(data.decode(LEGACY_ENCODING, errors="replace"), LEGACY_ENCODING, guessed=True)


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
        data = file.read(min(max_bytes, status.st_size) + 1)  # reading sets this much memory aside
    if len(data) > max_bytes:
        raise OSError(f"{path}: larger than {max_bytes:,} bytes")
    return data


def read_text(path: str | os.PathLike[str], max_bytes: int = MAX_TEXT_BYTES) -> DecodedText:
    """Read a text file in whatever encoding a user's editor wrote it (`decode_text`).

    Raises:
        OSError: as `read_bytes`.
        UnicodeDecodeError: it is no text.
    """
    return decode_text(read_bytes(path, max_bytes))


def contains(path: str | os.PathLike[str], *texts: str) -> bool:
    """Whether all ASCII texts occur in a file, in UTF-8 or UTF-16; searched without loading it."""
    if not is_regular(path):
        return False
    wanted = [[text.encode(form) for form in ("utf-8", "utf-16-le", "utf-16-be")] for text in texts]
    longest = max((len(form) for forms in wanted for form in forms), default=1)
    try:
        with open(path, "rb") as file:
            data = file.read(_PART_BYTES)
            while wanted and data:
                wanted = [forms for forms in wanted if not any(form in data for form in forms)]
                part = file.read(_PART_BYTES)
                data = data[-longest:] + part if part else b""
    except OSError:
        return False
    return not wanted


def home_folder() -> Path:
    """The user's; the root where he has none, as in containers that run as a number without a name."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def cache_folder() -> Path:
    """Where downloads and what is compiled are kept: ``SINGLESHOT_CACHE``, else ``singleshot`` in the user's cache."""
    if os.environ.get("SINGLESHOT_CACHE"):
        return Path(os.environ["SINGLESHOT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or home_folder() / ".cache") / "singleshot"


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
            raise OutputError(f"{path}: exists already: name another file, or replace it with `overwrite=True`")
    return path


def check_output_folder(
    path: str | os.PathLike[str],
    *,
    replaceable: Callable[[str], bool] | None = None,
    sources: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """Refuse to write into a folder that is not new or empty, or that is, holds, or lies in a source.

    Args:
        path: the folder to be written.
        replaceable: which entries the user allowed to be replaced (overwrite), by name; ``None``: he allowed nothing.
        sources: files and folders that this run reads.

    Returns:
        The path.

    Raises:
        OutputError: names the folder and the entry in the way.
    """
    path = Path(path)
    real = Path(os.path.realpath(path))
    for source in map(Path, map(os.path.realpath, sources)):
        if real == source or real in source.parents or (source in real.parents and source.is_dir()):
            raise OutputError(f"{path}: is, holds or lies in what this run reads ({source}): name a folder beside it")
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(f"{path}: exists and is no folder: name a new one")
    for name in sorted(os.listdir(path)) if path.is_dir() else ():
        if is_hidden(name):  # of a run that was killed, or is at work: `sole_writer` tells
            continue
        if replaceable is None:
            raise OutputError(f"{path}: exists and is not an empty folder: name a new one")
        if not replaceable(name):
            raise OutputError(f"{path}: holds '{name}', which is not of a kind that this writes: name another folder")
    return path


def put_in_place(draft: Path, path: Path) -> None:
    """Give a finished file its name. Where that replaces a file, the new one is on the disk first.

    File systems may carry out a rename before the data: a power cut would leave neither the old file nor the new.

    Raises:
        OSError: the disk does not take it, or the name is a folder's; ``path`` is as it was.
    """
    if path.is_file():
        with draft.open("r+b") as file:  # Windows needs the right to write
            _force_to_disk(file.fileno())
    draft.replace(path)


def _force_to_disk(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # there is no such thing here
            raise


def write_atomically(path: str | Path, content: bytes | str, mode: int | None = None) -> Path:
    """Write a file by way of a temporary neighbour and a rename (`put_in_place`); missing folders are made.

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
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with hidden_file(path.parent) as (temporary, file):
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if mode is not None:
                temporary.chmod(mode)
            if os.name == "nt":
                file.close()  # an open file has no other name there
            put_in_place(temporary, path)
    except OSError as error:
        if temporary is None or error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise
    return path
