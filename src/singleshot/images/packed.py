"""Images inside other files: ``train.rec/dog.jpg`` is the image ``dog.jpg`` in ``train.rec``, as if that were a folder.

Such a path is an ordinary `Path`: it is printed, compared, pickled and typed like that of any image. Whoever opens
image files asks here where the system finds no file. The images are never unpacked.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple, Protocol

from singleshot.core.files import is_regular
from singleshot.core.registry import Registry


class Member(Protocol):
    """An image inside a container."""

    @property
    def size(self) -> int:
        """Bytes of the image file."""

    def open(self) -> BinaryIO:
        """The image file, from its beginning; can be sought in."""


@dataclass(frozen=True)
class Container:
    """A kind of file that holds images.

    Attributes:
        members: images by their names (paths with ``/`` below the container), in the file's order.
        depends_on: other files that the names come from.
        faults: a sentence about each damaged place that is passed over.
        passed: names of what is passed over by rule, by the reason.
    """

    members: Callable[[Path], Mapping[str, Member]]
    depends_on: Callable[[Path], tuple[Path, ...]] = lambda path: ()
    faults: Callable[[Path], Sequence[str]] = lambda path: ()
    passed: Callable[[Path], Mapping[str, Sequence[str]]] = lambda path: {}


TAR_SUFFIXES = ("tar", "tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz")

CONTAINERS: Registry[Container] = Registry(
    "image container",
    {
        "rec": "singleshot.images.recordio",
        "zip": "singleshot.images.zip_archive",
        "parquet": "singleshot.images.parquet_images",
        **dict.fromkeys(TAR_SUFFIXES, "singleshot.images.tar_archive"),
    },
)
"""By the suffix of the file; those of other packages are entry points of the group ``singleshot.image_containers``."""


@dataclass(frozen=True, slots=True)
class Spans:
    """An image that lies uncompressed in pieces of a container.

    Attributes:
        container: the file.
        places: offset and length of each piece.
        sha256: of the image, where the container tells it.
    """

    container: Path
    places: tuple[tuple[int, int], ...]
    sha256: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(length for _, length in self.places)

    def open(self) -> BinaryIO:
        """One piece is read from its place as it is asked for, several are joined."""
        file = self.container.open("rb", buffering=0)
        if len(self.places) == 1:
            return io.BufferedReader(_Piece(file, *self.places[0]))
        joined = io.BytesIO()
        with io.BufferedReader(file) as whole:
            for offset, length in self.places:
                whole.seek(offset)
                joined.write(whole.read(length))
        joined.seek(0)
        return joined


class _Piece(io.RawIOBase):
    """A part of an open file as a file of its own."""

    def __init__(self, file: io.FileIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._length - self._at))
        self._file.seek(self._start + self._at)
        count = self._file.readinto(memoryview(buffer)[:wanted]) or 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class FileStamp(NamedTuple):
    """What tells whether an image has changed: its bytes, and when its file was written."""

    size: int
    modified_ns: int


def container_kind(path: str | os.PathLike[str]) -> str:
    """The name in `CONTAINERS` that a path ends in, the longest (``tar.gz``); empty where there is none."""
    suffixes = [suffix[1:].lower() for suffix in PurePath(path).suffixes[-2:]]
    kinds = (".".join(suffixes[at:]) for at in range(len(suffixes)))
    return next((kind for kind in kinds if kind in CONTAINERS), "")


def is_container(path: str | os.PathLike[str]) -> bool:
    """Whether a file is of a kind that holds images, by its suffix."""
    return bool(container_kind(path)) and is_regular(path)


def find_container(path: str | os.PathLike[str]) -> tuple[Path, str] | None:
    """The container that a path leads into, and the name inside; ``None`` where no part of the path is a container."""
    if "." not in os.path.dirname(os.fspath(path)):  # most paths: lists of sources have thousands
        return None
    pure = PurePath(path)
    outer = next((folder for folder in pure.parents if folder.suffix and is_container(folder)), None)
    return (Path(outer), pure.relative_to(outer).as_posix()) if outer else None


def find_member(path: str | os.PathLike[str]) -> Member | None:
    """The image inside a container that a path means; ``None`` where there is none.

    Raises:
        OSError: the container cannot be read.
    """
    found = find_container(path)
    return list_members(found[0]).get(found[1]) if found else None


def list_members(container: Path) -> Mapping[str, Member]:
    """All images of a container by name; remembered while the file does not change.

    Raises:
        OSError: it cannot be read.
    """
    kind = _kind_of(container)
    stamps = tuple(file_stamp(file) for file in (container, *kind.depends_on(container)))
    return _list_unchanged(container, stamps)


@lru_cache(maxsize=256)
def _list_unchanged(container: Path, _stamps: tuple[FileStamp | None, ...]) -> Mapping[str, Member]:
    return _kind_of(container).members(container)


def list_faults(container: Path) -> Sequence[str]:
    """What of a container is damaged and passed over, a sentence each.

    Raises:
        OSError: it cannot be read.
    """
    return _kind_of(container).faults(container)


def list_passed(container: Path) -> Mapping[str, Sequence[str]]:
    """What of a container is passed over by rule: names, by the reason.

    Raises:
        OSError: it cannot be read.
    """
    return _kind_of(container).passed(container)


def _kind_of(container: Path) -> Container:
    return CONTAINERS.get(container_kind(container))


def file_stamp(file: Path) -> FileStamp | None:
    """Size and time of a file; ``None`` where there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return FileStamp(status.st_size, status.st_mtime_ns)


def image_stamp(path: str | os.PathLike[str]) -> FileStamp:
    """Size and time of an image, a file's own or one inside a container.

    Raises:
        OSError: there is none.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        found, member = find_container(path), find_member(path)
        if found is None or member is None:
            raise
        return FileStamp(member.size, os.stat(found[0]).st_mtime_ns)
    return FileStamp(status.st_size, status.st_mtime_ns)


def open_image(path: str | os.PathLike[str]) -> BinaryIO:
    """Open an image for reading, a file or one inside a container.

    Raises:
        OSError: there is none.
    """
    try:
        return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError):
        member = find_member(path)
        if member is None:
            raise
        return member.open()


def stored_digest(path: str | os.PathLike[str]) -> bytes:
    """The SHA-256 that a container says an image in it has; empty where none says any, and of a file of its own.

    Raises:
        OSError: the container cannot be read.
    """
    member = find_member(path)
    digest: bytes = getattr(member, "sha256", b"")
    return digest


def image_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an image file, or of an image inside a container.

    Raises:
        OSError: there is none.
    """
    with open_image(path) as file:
        return file.read()
