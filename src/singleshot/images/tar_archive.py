"""Images in tar archives. In a plain one each lies at its place; a compressed one is unpacked from its beginning on.

An archive that is compressed as a whole has no table and no places to jump to. It is gone through once for the list of
its images, and once more as they are asked for, in their order: what is passed on the way is kept for a while.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading
import zlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, BinaryIO, cast

from singleshot.images.archive import MAX_ENTRIES, ArchiveContent, BoundedFile, check_size, container_of, remembered
from singleshot.images.packed import CONTAINERS, TAR_SUFFIXES, FileStamp, Member, Spans, file_stamp
from singleshot.images.shard_index import ShardMembers, find_index

MAX_KEPT_BYTES = 2**28
"""Of images that were passed on the way to a later one."""
MAX_CURSORS = 4
MOST_FOLDS, FREE_BYTES = 100, 2**30
"""An archive may unpack to so many times its size, and to so many bytes in any case."""

MAX_HEADER_BYTES = 2**20

_STEP = 2**18
_BLOCK = 512
_OPENERS: dict[bytes, Callable[[Path, str], object]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
"""By the first bytes: a name may be wrong."""
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
_MAKING = threading.Lock()


@dataclass(frozen=True, slots=True)
class PackedPiece:
    """An image of a compressed archive.

    Attributes:
        container: the archive.
        offset: where it begins in the unpacked archive.
        size: bytes of the image file.
    """

    container: Path
    offset: int
    size: int

    def open(self) -> BinaryIO:
        """The image file, in memory.

        Raises:
            OSError: the archive is damaged before its end, or the image is too large.
        """
        check_size(self.size)
        with _MAKING:
            unpacker = _unpacker(self.container, file_stamp(self.container), os.getpid())
        return io.BytesIO(unpacker.read(self.offset))


class Unpacker:
    """Unpacks pieces of one compressed archive. Any thread may ask; asked in their order, it goes through it once.

    Args:
        path: the archive.
        pieces: offset and size of its images, in their order.
    """

    def __init__(self, path: Path, pieces: list[tuple[int, int]]) -> None:
        self._path = path
        self._offsets = [offset for offset, _ in pieces]
        self._sizes = [size for _, size in pieces]
        self._numbers = {offset: number for number, offset in enumerate(self._offsets)}
        self._cursors: list[BinaryIO] = []  # the one used last comes last
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def read(self, offset: int) -> bytes:
        """The piece that begins at an offset.

        Raises:
            OSError: the archive is damaged, ends before it, or has none there.
        """
        with self._lock:
            if offset in self._kept:
                return self._kept[offset]
            if offset not in self._numbers:
                raise OSError("its archive has changed meanwhile")
            cursor = self._cursor_before(offset)
            try:
                return self._advance(cursor, offset)
            except _DAMAGE as error:
                self._cursors.remove(cursor)
                cursor.close()
                raise OSError(f"its archive is damaged or cut off before its end ({error})") from None

    def _cursor_before(self, offset: int) -> BinaryIO:
        """The cursor that has the least way to go; where none is before the offset, one more, or the one least used."""
        before = [cursor for cursor in self._cursors if cursor.tell() <= offset]
        if before:
            found = max(before, key=lambda cursor: cursor.tell())
        elif len(self._cursors) < MAX_CURSORS:
            found = _open(self._path)
            self._cursors.append(found)
        else:
            found = self._cursors[0]
            found.seek(0)
        self._cursors.remove(found)
        self._cursors.append(found)
        return found

    def _advance(self, cursor: BinaryIO, offset: int) -> bytes:
        """Go to a piece; keep the pieces on the way, and it."""
        at, target = bisect_left(self._offsets, cursor.tell()), self._numbers[offset]
        for number in range(at, target):
            if self._sizes[number] <= MAX_KEPT_BYTES // MAX_CURSORS:
                cursor.seek(self._offsets[number])
                self._keep(self._offsets[number], _piece(cursor, self._sizes[number]))
        cursor.seek(offset)
        data = _piece(cursor, self._sizes[target])
        self._keep(offset, data)
        return data

    def _keep(self, offset: int, data: bytes) -> None:
        self._kept_bytes += len(data) - len(self._kept.pop(offset, b""))
        self._kept[offset] = data
        while self._kept_bytes > MAX_KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    def __del__(self) -> None:
        for cursor in self._cursors:
            with suppress(Exception):
                cursor.close()


def _piece(cursor: BinaryIO, size: int) -> bytes:
    """The next bytes, all of them."""
    parts = []
    while size and (part := cursor.read(min(size, _STEP))):
        parts.append(part)
        size -= len(part)
    if size:
        raise EOFError("it ends inside an image")
    return b"".join(parts)


@lru_cache(maxsize=2)
def _unpacker(path: Path, _stamp: FileStamp | None, _process: int) -> Unpacker:
    """One for each archive and process: a forked one must not share its parent's place in the file."""
    members = read_tar(path).members.values()
    return Unpacker(path, [(member.offset, member.size) for member in members if isinstance(member, PackedPiece)])


def _compressed(path: Path) -> Callable[[Path, str], object] | None:
    """What opens a file that is compressed as a whole; ``None`` where it is not."""
    with path.open("rb") as file:
        start = file.read(6)
    return next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)


def _open(path: Path) -> BinaryIO:
    opener: Callable[[Path, str], object] = _compressed(path) or open
    return cast(BinaryIO, opener(path, "rb"))


@remembered
def read_tar(path: Path) -> ArchiveContent:
    """What an archive holds, by its headers, as far as it is whole; remembered while the file does not change.

    Raises:
        OSError: it cannot be read, or is no tar archive.
    """
    content = ArchiveContent()
    packed = _compressed(path) is not None
    most = FREE_BYTES + MOST_FOLDS * os.stat(path).st_size if packed else None
    last = ""
    with _open(path) as file:
        try:
            for info in entries(BoundedFile(file, MAX_HEADER_BYTES, most)):
                last = info.name
                _take(content, path, info, packed)
        except Exception as error:  # whatever is made of a damaged header
            reason = str(error) or type(error).__name__
            if not last:
                why = f"it is no tar archive, or is damaged ({reason}): copy or download it again"
                raise OSError(None, why) from None
            content.faults.append(f"read up to '{last}' only: {reason}")
    return content


def _take(content: ArchiveContent, path: Path, info: tarfile.TarInfo, packed: bool) -> None:
    if info.isdir():
        return
    if not info.isreg() or info.issparse():
        content.pass_over("links and devices inside an archive", info.name)
    elif wanted := content.wanted(info.name):
        place = info.offset_data, info.size
        content.add(wanted, PackedPiece(path, *place) if packed else Spans(path, (place,)))


def entries(file: BoundedFile) -> Iterator[tarfile.TarInfo]:
    """The headers of an archive.

    Raises:
        Exception: one is damaged; whatever `tarfile` makes of it.
    """
    archive = tarfile.TarFile(fileobj=cast(IO[bytes], file), encoding="utf-8", errors="surrogateescape")
    before = -1
    for _ in range(MAX_ENTRIES):
        info = archive.next()
        if info is None:  # also where what should be a header is none
            file.seek(archive.offset)
            if file.read(_BLOCK).strip(b"\0"):
                raise ValueError("no header is where one should be")
            return
        if archive.offset <= before or info.size < 0:
            raise ValueError("a header of a negative size")
        before = archive.offset
        archive.members.clear()  # type: ignore[attr-defined]  # they are kept by us, as far as they are wanted
        yield info
    raise ValueError(f"it holds more than {MAX_ENTRIES:,} files")


def _members(path: Path) -> Mapping[str, Member]:
    """The images of an archive: by its index where it has one, else by its headers."""
    index = find_index(path)
    return ShardMembers(index) if index else read_tar(path).members


for _suffix in TAR_SUFFIXES:
    CONTAINERS.register(_suffix)(replace(container_of(read_tar), members=_members))
