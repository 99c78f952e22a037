"""MXNet's RecordIO with images: ``train.rec``, and the names of its images from ``train.lst`` beside it.

A record is ``uint32 0xced7230a``, ``uint32`` (3 bits part, 29 bits length), the payload, and zeros to a multiple of 4.
A payload that holds the magic number at a multiple of 4 is written in parts without it (1 first, 2 middle, 3 last; 0
whole). The payload of an image is ``uint32 n, float label, uint64 id, uint64 id2``, then ``n`` float32 where ``n`` is
not 0 (then they are the label), then the image file. (MXNet documentation, RecordIO; dmlc-core, recordio.h.)
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from singleshot.core.files import read_text
from singleshot.images.packed import CONTAINERS, Container, Member, Spans

MAGIC = struct.pack("<I", 0xCED7230A)
HEAD = struct.Struct("<II")
IMAGE_HEAD = struct.Struct("<IfQQ")
LENGTH_BITS = 29
MAX_LENGTH = 2**LENGTH_BITS - 1
WHOLE, FIRST, MIDDLE, LAST = range(4)
MAX_LIST_BYTES = 2**30
MAX_RECORD_BYTES = 2**31 - 1
MAX_NUMBERS = 2**20
"""In a label: 170,000 objects."""
MAX_FAULTS = 1000
# Of the images that nothing names: enough for the programs that look at suffixes.
_SUFFIXES = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"BM", ".bmp"), (b"RIFF", ".webp"), (b"GIF8", ".gif"))

Places = tuple[tuple[int, int], ...]


class ListRow(NamedTuple):
    """A line of a ``.lst`` file: index, label, path, separated by tabs.

    Attributes:
        line: its number, from 1.
        key: the image's index.
        numbers: the label.
        path: as written.
    """

    line: int
    key: int
    numbers: tuple[float, ...]
    path: str


class PackedImage(NamedTuple):
    """One image of a file.

    Attributes:
        name: of the list, else of its id.
        key: its id.
        offset: where the record begins.
        numbers: the label.
        image: where the image file lies.
    """

    name: str
    key: int
    offset: int
    numbers: tuple[float, ...]
    image: Spans


@dataclass(frozen=True)
class RecordFile:
    """What a file holds.

    Attributes:
        records: those that are whole.
        faults: offset and a sentence of each place that is damaged and passed over.
    """

    records: tuple[PackedImage, ...]
    faults: tuple[tuple[int, str], ...]


def read_records(path: Path) -> RecordFile:
    """All records of a file, from its headers and labels; what is damaged is passed over. Remembered while unchanged.

    Raises:
        OSError: the file cannot be read.
    """
    status = os.stat(path)
    listed = list_of(path)
    return _read_unchanged(path, status.st_size, status.st_mtime_ns, listed and os.stat(listed).st_mtime_ns)


def list_of(path: Path) -> Path | None:
    """The list of a file's images, which lies beside it."""
    listed = path.with_suffix(".lst")
    return listed if listed.is_file() else None


def read_list(path: Path) -> tuple[list[ListRow], list[int]]:
    """The lines of a list, and the numbers of lines that are none.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    rows, bad = [], []
    for number, line in enumerate(read_text(path, MAX_LIST_BYTES).text.split("\n"), 1):
        cells = line.rstrip("\r").split("\t")
        if len(cells) == 1 and not cells[0].strip():
            continue
        try:
            index, *numbers = map(float, cells[:-1])
            rows.append(ListRow(number, int(index), tuple(numbers), cells[-1].strip()))
        except (ValueError, OverflowError):
            bad.append(number)
    return rows, bad


@lru_cache(maxsize=8)
def _read_unchanged(path: Path, size: int, _modified_ns: int, _list_modified_ns: int | None) -> RecordFile:
    if not size:
        return RecordFile((), ())
    names = _listed_names(path)
    faults: list[tuple[int, str]] = []
    records: list[PackedImage] = []
    taken: set[str] = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for offset, places in _payloads(data, faults):
            try:
                key, numbers, image = _split_payload(data, places)
            except ValueError as error:
                faults.append((offset, str(error)))
                continue
            name = names.get(key) or f"{key:09d}{_suffix(data, image)}"
            if name in taken:
                name = f"at{offset}_{name.rpartition('/')[2]}"
            taken.add(name)
            records.append(PackedImage(name, key, offset, numbers, Spans(path, image)))
    return RecordFile(tuple(records), tuple(sorted(faults)))


def _listed_names(path: Path) -> dict[int, str]:
    """Paths of the list by index, without what would lead out of the file."""
    listed = list_of(path)
    try:
        rows = read_list(listed)[0] if listed else []
    except (OSError, UnicodeDecodeError):
        return {}
    parts = ((row.key, row.path.replace("\\", "/").split("/")) for row in rows)
    return {key: "/".join(part for part in path if part not in ("", ".", "..")) for key, path in parts}


def _payloads(data: mmap.mmap, faults: list[tuple[int, str]]) -> Iterator[tuple[int, Places]]:
    """Offset and payload of each record. After damage the next magic number is looked for: it begins a record."""
    at, start = 0, 0
    parts: list[tuple[int, int]] = []
    while at < len(data):
        if len(faults) >= MAX_FAULTS:
            faults.append((at, f"after {MAX_FAULTS:,} damaged places the rest is not read"))
            return
        part, length, fault = _frame(data, at)
        if not fault and part in (MIDDLE, LAST) and not parts:
            fault = "a part of a record whose beginning is missing"
        if parts and (fault or part in (WHOLE, FIRST)):
            faults.append((start, "a record in parts does not end"))
            parts = []
        if fault:
            faults.append((at, fault))
            at = _next_magic(data, at + 4)
            continue
        if part in (WHOLE, FIRST):
            start = at
        else:
            parts.append((at, len(MAGIC)))  # left out between the parts: here it is, as that of the part's own head
        parts.append((at + HEAD.size, length))
        if part in (WHOLE, LAST):
            yield start, tuple(parts)
            parts = []
        at += HEAD.size + length + -length % 4
    if parts:
        faults.append((start, "a record in parts does not end"))


def _frame(data: mmap.mmap, at: int) -> tuple[int, int, str]:
    """Part and length of what begins at an offset, and what is wrong with it."""
    left = len(data) - at - HEAD.size
    if left < 0:
        return 0, 0, f"{len(data) - at} bytes are too few for a record: the file is cut off"
    magic, word = HEAD.unpack_from(data, at)
    part, length = word >> LENGTH_BITS, word & MAX_LENGTH
    if magic != int.from_bytes(MAGIC, "little"):
        return 0, 0, f"no record begins here: 0x{magic:08x} is not the magic number"
    if part > LAST:
        return 0, 0, f"no record begins here: {part} is no kind of part (0 to 3)"
    if length > left:
        return 0, 0, f"the record claims {length:,} bytes, and the file has {left:,} more: it is cut off or damaged"
    return part, length, ""


def _next_magic(data: mmap.mmap, at: int) -> int:
    """The next offset, a multiple of 4, of the magic number; the file's end where there is none."""
    while (found := data.find(MAGIC, at)) >= 0:
        if found % 4 == 0:
            return found
        at = found + 1
    return len(data)


def _split_payload(data: mmap.mmap, places: Places) -> tuple[int, tuple[float, ...], Places]:
    """Id, label and image of a payload.

    Raises:
        ValueError: its head or label is wider than the record.
    """
    size = sum(length for _, length in places)
    if size < IMAGE_HEAD.size:
        raise ValueError(f"the record has {size} bytes, and the head of an image alone {IMAGE_HEAD.size}")
    if size > MAX_RECORD_BYTES:
        raise ValueError(f"a record of {size:,} bytes is larger than any image file that is read")
    count, label, key, _ = IMAGE_HEAD.unpack(_joined(data, places, IMAGE_HEAD.size))
    width = IMAGE_HEAD.size + 4 * count
    if width > size or count > MAX_NUMBERS:
        raise ValueError(
            f"the label of {count:,} numbers is wider than the record of {size:,} bytes, or than any label"
        )
    numbers = struct.unpack_from(f"<{count}f", _joined(data, places, width), IMAGE_HEAD.size) if count else (label,)
    return key, numbers, _without(places, width)


def _joined(data: mmap.mmap, places: Places, count: int) -> bytes:
    """The first bytes of a payload."""
    result = b""
    for offset, length in places:
        result += data[offset : offset + min(length, count - len(result))]
    return result


def _without(places: Places, count: int) -> Places:
    """What is left after the first bytes of a payload."""
    left: list[tuple[int, int]] = []
    for offset, length in places:
        skipped = min(count, length)
        count -= skipped
        if length > skipped:
            left.append((offset + skipped, length - skipped))
    return tuple(left)


def _suffix(data: mmap.mmap, image: Places) -> str:
    return suffix_of(_joined(data, image, 4))


def suffix_of(head: bytes) -> str:
    """The suffix that files of an image's format have, by its first bytes; empty where they tell none."""
    return next((suffix for sign, suffix in _SUFFIXES if head.startswith(sign)), "")


def _list(path: Path) -> Mapping[str, Member]:
    return {record.name: record.image for record in read_records(path).records}


def _faults(path: Path) -> list[str]:
    return [f"at byte {offset}: {message}" for offset, message in read_records(path).faults]


CONTAINERS.register("rec")(Container(_list, lambda path: (path.with_suffix(".lst"),), _faults))
