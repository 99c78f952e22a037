"""What zip and tar archives share: which of their entries are images that may be read, and the bounds of reading."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from singleshot.images.packed import Container, FileStamp, Member, container_kind, file_stamp
from singleshot.images.read import IMAGE_SUFFIXES

MAX_ENTRIES = 1_000_000
MAX_UNPACKED_BYTES = 2**29
"""Of one image: as many as the largest image takes in memory."""
_ARCHIVES = (".7z", ".rar", ".gz", ".bz2", ".xz", ".zst")  # besides those that are read
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass
class ArchiveContent:
    """What an archive holds.

    Attributes:
        members: images by name, in the archive's order.
        faults: a sentence about each damaged place.
        passed: names of what is passed over by rule, by the reason.
    """

    members: dict[str, Member] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    passed: dict[str, list[str]] = field(default_factory=dict)

    def pass_over(self, why: str, name: str) -> None:
        """Note what is not taken."""
        self.passed.setdefault(why, []).append(name)

    def wanted(self, name: str) -> str | None:
        """The name of an ordinary file's entry as a path below the archive, if it is an image's.

        Names that would lead out of the archive, and archives inside it, are noted as passed over.
        """
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or _DRIVE.match(name):
            self.pass_over("names that lead out of the archive", name)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            return path.as_posix()
        elif container_kind(path) or path.suffix.lower() in _ARCHIVES:
            self.pass_over("an archive inside the archive: unpack it first", name)
        return None

    def add(self, name: str, member: Member) -> None:
        """Take an image; of several with one name the last stays, as unpacking leaves it."""
        if self.members.pop(name, None) is not None:
            self.pass_over("there is a later one of this name", name)
        self.members[name] = member


class BoundedFile:
    """A file whose tables and headers are read by others: they get no more at once than is believable.

    Args:
        file: what is read.
        max_read: bytes that are read at once.
        max_bytes: how far the file may be read; ``None`` sets no bound.
    """

    def __init__(self, file: BinaryIO, max_read: int, max_bytes: int | None = None) -> None:
        self._file, self._max_read, self._max_bytes = file, max_read, max_bytes

    def read(self, count: int = -1) -> bytes:
        """Up to ``count`` bytes; what is left, where that is negative.

        Raises:
            OSError: more are asked for than any table has, or the bound is passed.
        """
        data = self._file.read(min(count, self._max_read + 1) if count >= 0 else self._max_read + 1)
        if max(count, len(data)) > self._max_read:
            raise OSError(f"it claims a table of more than {self._max_read:,} bytes")
        self._check(self._file.tell())
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset of the file.

        Raises:
            OSError: the bound is passed.
        """
        if whence == os.SEEK_SET:
            self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the file is read."""
        return self._file.tell()

    def seekable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check(self, offset: int) -> None:
        if self._max_bytes is not None and offset > self._max_bytes:
            raise OSError(f"it unpacks to more than {self._max_bytes:,} bytes, which no photos do")


def read_bounded(file: BinaryIO, size: int, step: int) -> bytes:
    """All of an image's file, as it is unpacked, in steps.

    Raises:
        OSError: it is longer or shorter than its archive says.
    """
    parts, count = [], 0
    while part := file.read(step):
        count += len(part)
        if count > size:
            break
        parts.append(part)
    if count != size:
        found = "more" if count > size else f"{count:,}"
        raise OSError(f"its archive promises {size:,} bytes and holds {found}: cut off or damaged")
    return b"".join(parts)


def check_size(size: int) -> None:
    """Refuse what would unpack to more than an image has.

    Raises:
        OSError: says the limit.
    """
    if size > MAX_UNPACKED_BYTES:
        raise OSError(f"it unpacks to {size:,} bytes, over the limit of {MAX_UNPACKED_BYTES:,}: unpack the archive")


def remembered(read: Callable[[Path], ArchiveContent]) -> Callable[[Path], ArchiveContent]:
    """The same function, which reads an archive again only where the file has changed."""

    @lru_cache(maxsize=8)
    def read_unchanged(path: Path, _stamp: FileStamp | None) -> ArchiveContent:
        return read(path)

    @wraps(read)
    def read_again(path: Path) -> ArchiveContent:
        return read_unchanged(path, file_stamp(path))

    return read_again


def container_of(read: Callable[[Path], ArchiveContent]) -> Container:
    """A kind of archive as a container of images."""

    def passed(path: Path) -> Mapping[str, Sequence[str]]:
        return read(path).passed

    return Container(members=lambda path: read(path).members, faults=lambda path: read(path).faults, passed=passed)
