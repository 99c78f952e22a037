"""MXNet's packed data sets: ``.rec`` files with images and boxes as im2rec makes them, or ``.lst`` files beside images.

A label begins with its own header: how many numbers the header has (2 or more), how many an object has (5 or more).
Then come the objects: class, xmin, ymin, xmax, ymax in fractions of the image, and as a sixth number ``difficult``. A
class below 0 fills up a row and is no object.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import read_text
from singleshot.data.bad_records import Problem
from singleshot.data.formats.rec_writer import REC
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.formats.yolo_names import MAX_CLASSES, find_class_list, stand_in
from singleshot.data.paths import Locator, is_possible, subfolders, visible
from singleshot.data.records import ImageRecord, Records
from singleshot.data.split_names import names_split
from singleshot.errors import DataError
from singleshot.images.packed import image_bytes
from singleshot.images.recordio import (
    MAGIC,
    MAX_LIST_BYTES,
    ListRow,
    PackedImage,
    RecordFile,
    list_of,
    read_list,
    read_records,
)

PACKED, LIST = ".rec", ".lst"
MIN_HEADER, MIN_OBJECT, DIFFICULT = 2, 5, 5
NOT_PACKED = "does not begin with RecordIO's magic number: it is no .rec file of MXNet, or damaged"


@dataclass(frozen=True)
class RecLayout:
    """Packed files and lists.

    Attributes:
        root: the folder of the data set.
        files: the ``.rec`` or ``.lst`` of each split; the key of a data set without splits is ``""``.
        names: class names by number; ``None`` where nothing names the classes.
        problems: what was noted while it was recognised.
    """

    root: Path
    files: dict[str, Path]
    names: tuple[str, ...] | None
    problems: tuple[Problem, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``train`` for ``train.rec``."""
        return tuple(name for name in self.files if name)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every file."""
        records = Records(fractions=True, states_sizes=False, problems=list(self.problems))
        for name in self.files if split is None else split.split("+"):
            records.extend(self._parts[name])
        names = self.names if self.names is not None else self._numbered(records)
        records.class_names, records.class_ids = names, tuple(range(len(names)))
        records.unnamed = self.names is None
        return records

    @cached_property
    def _parts(self) -> dict[str, Records]:
        seen: Seen = {}
        return {
            name: _read_packed(file, seen) if file.suffix.lower() == PACKED else _read_listed(file)
            for name, file in self.files.items()
        }

    def _numbered(self, records: Records) -> tuple[str, ...]:
        """Names made of the numbers of all splits, for files beside which nothing names the classes."""
        count = max((int(label) + 1 for part in self._parts.values() for label in part.labels), default=0)
        if count:
            last = f" to {stand_in(count - 1)}" if count > 1 else ""
            place = self.root / "classes.txt"
            message = (
                f"no list names the classes: {stand_in(0)}{last}; put their names in order, one a line, into {place}"
            )
            records.add_problem(self.root, None, "unnamed-class", message, "noted")
        return tuple(map(stand_in, range(count)))


def find(path: Path) -> RecLayout | None:
    """Recognise packed files or lists at ``path``: one of them, or a folder with some.

    Raises:
        DataError: a ``.rec`` file that the user named, or every one that is called after a split, is none.
    """
    root = path if path.is_dir() else path.parent
    packed = visible(path, PACKED) if path.is_dir() else [path] * (path.suffix.lower() == PACKED and path.is_file())
    lists = visible(path, LIST) if path.is_dir() else [path] * (path.suffix.lower() == LIST and path.is_file())
    files = [file for file in packed if _is_packed(file)]
    passed = {file: NOT_PACKED for file in packed if file not in files and (names_split(file.stem) or file == path)}
    if passed and not files:
        file, why = next(iter(passed.items()))
        raise DataError(f"{file}: {why}")
    alone = [file for file in lists if file.with_suffix(PACKED) not in files and _is_list(file)]
    if files:
        passed |= dict.fromkeys(alone, "there is no .rec of this name, and those that are here are read")
    else:
        files = [file for file in alone if len(alone) == 1 or names_split(file.stem)]
    if not files:
        return None
    lone = len(files) == 1 and not names_split(files[0].stem)
    names, problems = find_class_list([root])
    problems += [Problem(file, None, "other-settings", "noted", f"passed over: {why}") for file, why in passed.items()]
    return RecLayout(root, {"" if lone else file.stem: file for file in files}, names, tuple(problems))


def _is_packed(file: Path) -> bool:
    """Whether a file begins as RecordIO; an empty one is a split without images."""
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) in (MAGIC, b"")


def _is_list(file: Path) -> bool:
    """Whether the first line of a ``.lst`` has boxes; lists of other programs and of classes have not."""
    try:
        rows, _ = read_list(file)
        for row in rows[:1]:
            _objects(row.numbers)
    except (OSError, ValueError):
        return False
    return bool(rows)


Row = tuple[int, tuple[float, float, float, float], bool]


def _objects(numbers: Sequence[float]) -> list[Row]:
    """Class, corners and ``difficult`` of each object of a label.

    Raises:
        ValueError: it is no label of boxes; says why.
    """
    if len(numbers) < MIN_HEADER:
        raise ValueError(f"the label has {len(numbers)} number: it is a class of the whole image, not boxes")
    header, width = (int(number) if math.isfinite(number) else 0 for number in numbers[:2])
    if (header, width) != tuple(numbers[:2]) or header < MIN_HEADER or width < MIN_OBJECT:
        shown = ", ".join(f"{number:g}" for number in numbers[:4])
        raise ValueError(f"the label ({shown} ...) does not begin with the widths of header and object (2, 5 or 6)")
    if header > len(numbers):
        raise ValueError(f"the label header is {header} numbers wide, and the label has {len(numbers)}")
    if (len(numbers) - header) % width:
        raise ValueError(f"the label has {len(numbers) - header} numbers of objects, and an object takes {width}")
    rows = np.array(numbers[header:], dtype=np.float64).reshape(-1, width)
    return list(_rows(rows))


def _rows(rows: NDArray[np.float64]) -> Iterator[Row]:
    has_flag = rows.shape[1] > DIFFICULT
    for row in rows.tolist():
        if not (0 <= row[0] < MAX_CLASSES and row[0].is_integer()):
            if row[0] < 0:
                continue
            raise ValueError(f"the class {row[0]:g} is no number from 0 to {MAX_CLASSES:,}")
        yield int(row[0]), (row[1], row[2], row[3], row[4]), bool(has_flag and row[DIFFICULT] > 0)


def _add(records: Records, numbers: Sequence[float], line: int) -> None:
    for label, box, difficult in _objects(numbers):
        records.add_object(box, label, line, difficult=difficult)


Seen = dict[tuple[str, int, tuple[float, ...]], Path]
"""Images of earlier files by name, bytes and label: splits that overlap hold copies."""


def _read_packed(file: Path, seen: Seen) -> Records:
    """The records of a ``.rec`` file."""
    records = Records()
    try:
        read = read_records(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    for offset, message in read.faults:
        records.add_problem(file, None, "bad-record", f"at byte {offset}: {message}")
    for record in read.records:
        path = _first_copy(file / record.name, seen, record)
        records.images.append(ImageRecord(path, PurePath(record.name).stem, file, objects_file=path))
        try:
            _add(records, record.numbers, 0)
        except ValueError as error:
            records.images.pop()
            records.add_problem(file, None, "bad-record", f"{record.name} at byte {record.offset}: {error}")
    _compare_list(records, file, read)
    _compare_index(records, file, read)
    return records


def _first_copy(path: Path, seen: Seen, record: PackedImage) -> Path:
    """The same image in an earlier file, so that it counts once; else its own path."""
    first = seen.setdefault((record.name, record.image.size, record.numbers), path)
    return first if first is path or image_bytes(first) == image_bytes(path) else path


def _compare_list(records: Records, file: Path, read: RecordFile) -> None:
    """A note where the list beside a file has other labels: it names the images, and the file's own labels count."""
    listed = list_of(file)
    if listed is None:
        return
    try:
        rows, bad = read_list(listed)
    except (OSError, UnicodeDecodeError) as error:
        records.add_problem(listed, None, "stale-list", f"cannot be read, so images go by number: {error}", "noted")
        return
    by_key = {row.key: row for row in rows}
    other = [record for record in read.records if not _same_label(by_key.get(record.key), record.numbers)]
    if other or bad:
        first = f", such as {other[0].name}" if other else f"; line {bad[0]} is no line of a list"
        message = f"does not say the same as {file.name} of {len(other)} images{first}: what {file.name} says counts"
        records.add_problem(listed, None, "stale-list", message, "noted")


def _same_label(row: ListRow | None, numbers: Sequence[float]) -> bool:
    return row is not None and len(row.numbers) == len(numbers) and np.allclose(row.numbers, numbers, atol=1e-4)


def _compare_index(records: Records, file: Path, read: RecordFile) -> None:
    """A note where the index beside a file is of another one; it is not needed."""
    index = file.with_suffix(".idx")
    if not index.is_file():
        return
    try:
        offsets = {int(line.split("\t")[1]) for line in read_text(index, MAX_LIST_BYTES).text.splitlines() if line}
    except (OSError, ValueError, IndexError):
        offsets = set()
    ours = {record.offset for record in read.records}
    others = offsets - ours - {offset for offset, _ in read.faults}
    if others or not ours <= offsets:
        message = f"lacks {len(ours - offsets)} of {len(ours)} records of {file.name}, and has {len(others)} others"
        records.add_problem(index, None, "stale-index", message, "noted")


def _read_listed(file: Path) -> Records:
    """The lines of a ``.lst`` file, whose images lie beside it or in a folder below."""
    records = Records()
    try:
        rows, bad = read_list(file)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: the list cannot be read: {error}") from error
    for line in bad:
        records.add_problem(file, line, "bad-record", "expected an index, a label and a path, separated by tabs")
    locator = Locator([file.parent, *subfolders(file.parent)])
    for row in rows:
        if not is_possible(row.path):
            records.add_problem(file, row.line, "bad-record", f"'{row.path[:60]}' is no path of an image")
            continue
        path = locator.find(row.path) or file.parent / row.path
        records.images.append(ImageRecord(path, path.stem, file, row.line))
        try:
            _add(records, row.numbers, row.line)
        except ValueError as error:
            records.images.pop()
            records.add_problem(file, row.line, "bad-record", str(error))
    if locator.moved:
        message = f"{locator.moved} images were found by the end of their path, or in other capitals"
        records.add_problem(file, None, "moved-paths", message, "noted")
    return records


FORMATS.register("rec")(
    DataFormat(
        "RecordIO",
        "MXNet's .rec files with boxes (train.rec, val.rec), or .lst files with boxes, beside their images",
        find,
        writer=REC,
    )
)
