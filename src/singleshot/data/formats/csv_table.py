"""Tables with a line for each object: ``filename, width, height, class, xmin, ymin, xmax, ymax`` and the like."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

from singleshot.core.files import Text, decode_text, read_text
from singleshot.data.bad_records import Problem
from singleshot.data.file_index import normal
from singleshot.data.formats.csv_columns import (
    AUTOML_SETS,
    DELIMITERS,
    Columns,
    guess_columns,
    missing_columns,
    read_header,
)
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.formats.yolo_names import guessed_encoding
from singleshot.data.paths import Locator, images_below, is_possible, spellings, subfolders, visible
from singleshot.data.records import ImageRecord, Records, declared_size
from singleshot.data.split_names import Role, is_whole, may_hold, split_role
from singleshot.data.values import as_number
from singleshot.errors import DataError

MAX_CSV_BYTES = 2**30
MAX_HEADER_BYTES = 65536
SUFFIXES = (".csv", ".tsv")
IMAGE_FOLDERS = ("images", "Images", "JPEGImages", "imgs", "img", "image", "photos")
# Boxes up to here are fractions of the image when all of a table are.
MAX_FRACTION = 1.001


@dataclass(frozen=True)
class Table:
    """A file, and how it is written."""

    file: Path
    delimiter: str
    columns: Columns


@dataclass(frozen=True)
class CsvLayout:
    """Tables; the images lie beside them, in ``images/``, elsewhere below the folder, or where the table says.

    Attributes:
        root: the folder of the data set.
        tables: the table of each split; the key of a data set without splits is ``""``.
        class_list: names in their order, from a table ``name,number``; empty for the sorted names of all tables.
    """

    root: Path
    tables: dict[str, Table]
    class_list: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = field(default=())

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``train_labels`` for ``train_labels.csv``, or of the column that says so."""
        return tuple(name for name in self._parts if name)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every table; the classes are those of all."""
        wanted = self._parts if split is None else split.split("+")
        fractions = {records.fractions for records in self._parts.values() if records.boxes}
        records = Records(
            states_sizes=all(part.states_sizes for part in self._parts.values()),
            fractions=fractions == {True},
            widths=any(table.columns.form == "size" for table in self.tables.values()),
            problems=list(self.problems),
        )
        if len(fractions) == 2:
            raise DataError(f"{self.root}: some tables hold fractions of the image, others pixels: make them alike")
        for name in wanted:
            records.extend(self._parts[name])
        labels = {str(label) for part in self._parts.values() for label in part.labels if label}
        records.class_names = self.class_list or tuple(sorted(labels))
        return records

    @cached_property
    def _parts(self) -> dict[str, Records]:
        """The records of each split: one for each table, or one for each value of its column ``split``."""
        finder = _ImageFinder(self.root, [table.file for table in self.tables.values()])
        parts: dict[str, Records] = {}
        for name, table in self.tables.items():
            for own, records in _read_table(table, finder).items():
                parts[own or name] = records
        return parts


class _ImageFinder:
    """Finds images by what a table calls them: near it, by its end, or by their name in the folder."""

    def __init__(self, root: Path, files: list[Path]) -> None:
        self._root = root
        near = [place for file in files for place in (file.parent, *_beside(file.parent))]
        self._locator = Locator([root, *near, *_beside(root)])
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, name: str, role: Role | None) -> Path:
        """The image, or where it should be; folders of other splits than ``role`` do not count."""
        found = self._locator.find(name)
        if found is None:
            same = self._named(PurePath(spellings(name)[-1]).name)
            mine = [path for path in same if may_hold(path.relative_to(self._root).parent.parts, role)]
            found = mine[0] if len(mine) == 1 else None
        return found or self._root / name.replace("\\", "/")

    def _named(self, name: str) -> list[Path]:
        if self._by_name is None:
            self._by_name = {}
            for path in images_below(self._root):
                self._by_name.setdefault(normal(path.name), []).append(path)
                self._by_name.setdefault(normal(path.stem), []).append(path)  # tables of ids have no suffix
        return self._by_name.get(normal(name), [])


def _beside(folder: Path) -> Iterator[Path]:
    """The usual folders of images in a folder and beside it."""
    return (place / name for place in (folder, folder.parent) for name in IMAGE_FOLDERS if (place / name).is_dir())


def find(path: Path) -> CsvLayout | None:
    """Recognise tables with the wanted columns: a file, one file in a folder, or one for each split.

    Raises:
        DataError: the table that the user named, or the only one, has a mistake.
    """
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            return None
        name = path.stem if split_role(path.stem) else ""
        return CsvLayout(path.parent, {name: _recognise(path)}, _class_list([path.parent]))
    files = visible(path, *SUFFIXES)
    files += [file for folder in subfolders(path) for file in visible(folder, *SUFFIXES)]
    tables, faults = [], []
    for file in files:
        try:
            tables.append(_recognise(file))
        except DataError as error:
            if _has_some_columns(file):
                faults.append(error)
    if not tables and faults:
        raise faults[0]
    if not tables:
        return None
    names = [_split_name(table.file, path) for table in tables]
    if len(tables) == 1 and not split_role(names[0]):
        names = [""]
    classes = _class_list([table.file.parent for table in tables])
    return CsvLayout(path, _named_apart(names, tables), classes)


def _named_apart(names: list[str], tables: list[Table]) -> dict[str, Table]:
    """Tables by split; where two would have one name, by their folder too."""
    counts = Counter(names)
    full = [
        f"{table.file.parent.name}_{name}" if counts[name] > 1 else name
        for name, table in zip(names, tables, strict=True)
    ]
    return dict(zip(full, tables, strict=True))


def _split_name(file: Path, root: Path) -> str:
    stem = file.stem.removesuffix("_labels").removesuffix("_annotations").strip("_")
    return file.parent.name if (is_whole(stem) and file.parent != root) else stem


def _class_list(folders: list[Path]) -> tuple[str, ...]:
    """Names in the order of their numbers, from a ``classes.csv`` of ``name,number`` lines as RetinaNet has it."""
    for file in (file for folder in dict.fromkeys(folders) for file in visible(folder, ".csv")):
        if not file.stem.lower().startswith("class"):
            continue
        rows = [row for row in csv.reader(io.StringIO(_text(file).text)) if row]
        if rows and all(len(row) == 2 and row[1].strip().isdecimal() for row in rows):
            return tuple(name.strip() for name, _ in sorted(rows, key=lambda row: int(row[1])))
    return ()


def _text(file: Path) -> Text:
    try:
        return read_text(file, MAX_CSV_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


def _head(file: Path) -> str:
    """The first lines."""
    try:
        with file.open("rb") as handle:
            head = handle.read(MAX_HEADER_BYTES)
        if len(head) == MAX_HEADER_BYTES:  # whole lines, or the cut would fall into a character
            head = head[: head.rfind(b"\n") + 1 + (b"\n\0" in head)] or head
        return _without_separator(decode_text(head).text)
    except (OSError, UnicodeDecodeError):
        return ""


def _without_separator(text: str) -> str:
    """The text with an empty line in place of ``sep=;``, which spreadsheets put first."""
    return re.sub(r'\A"?sep=."?(?=[\r\n])', "", text, flags=re.IGNORECASE)


def _has_some_columns(file: Path) -> bool:
    """Whether the first line has most of the wanted names, so that the table is meant and damaged."""
    first = (_head(file).splitlines() or [""])[0]
    return any(len(missing_columns(first.replace('"', "").split(sign))) <= 2 for sign in DELIMITERS)


def _recognise(file: Path) -> Table:
    """How a table is written.

    Raises:
        DataError: it is none, or lacks a column; names the line and the columns.
    """
    head = _head(file)
    if not head.strip():
        raise DataError(f"{file}: the table is empty or no text")
    cells: list[str] = []
    for sign in DELIMITERS:
        row = _first_row(file, head, sign)
        columns = read_header(row) or guess_columns(row)
        if columns:
            return Table(file, sign, columns)
        cells = max(cells, row, key=len)
    if any("\n" in cell or "\r" in cell for cell in cells):
        raise DataError(f"{file}:1: the header has a line break inside a column's name (an unclosed quotation mark?)")
    shown = ", ".join(cell.strip()[:20] for cell in cells[:12])
    lacks = ", ".join(missing_columns(cells))
    raise DataError(f"{file}:1: the header lacks {lacks}; it has: {shown}")


def _first_row(file: Path, head: str, delimiter: str) -> list[str]:
    try:
        rows = csv.reader(io.StringIO(head, newline=""), skipinitialspace=True, delimiter=delimiter)
        return next((row for row in rows if any(cell.strip() for cell in row)), [])
    except csv.Error as error:
        raise DataError(f"{file}:1: not valid csv: {error}") from error


def _read_table(table: Table, finder: _ImageFinder) -> dict[str, Records]:
    """The records of every line, by the split that the line states (``""`` where it states none)."""
    text = _text(table.file)
    parts: dict[str, Records] = {}
    positions: dict[tuple[str, str], int] = {}
    reader = csv.reader(
        io.StringIO(_without_separator(text.text), newline=""), skipinitialspace=True, delimiter=table.delimiter
    )
    waiting = table.columns.header
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if waiting:
                waiting = False
                continue
            _read_row(parts, table, reader.line_num, row, positions, finder)
    except csv.Error as error:
        raise DataError(f"{table.file}:{reader.line_num}: not valid csv: {error}") from error
    for records in parts.values():
        records.states_sizes = "image_width" in table.columns.places
    parts = parts or {"": Records(states_sizes=False)}
    first = next(iter(parts.values()))
    if text.guessed:
        first.problems.append(guessed_encoding(table.file, text.encoding))
    _settle_unit(table, parts)
    return parts


def _read_row(
    parts: dict[str, Records],
    table: Table,
    line: int,
    row: list[str],
    positions: dict[tuple[str, str], int],
    finder: _ImageFinder,
) -> None:
    """Append what a line says; a line without a class is an image without objects."""
    cells = {key: row[place].strip() if place < len(row) else "" for key, place in table.columns.places.items()}
    split = AUTOML_SETS.get(cells.get("split", "").upper(), cells.get("split", ""))
    records = parts.setdefault(split, Records())
    name = cells["filename"]
    if not name or not is_possible(spellings(name)[-1]):
        message = f"'{name[:60]}' is no name of an image" if name else "the line names no image"
        records.add_problem(table.file, line, "bad-record", message)
        return
    if (split, name) not in positions:
        positions[split, name] = len(records.images)
        sides = (_number(cells.get(key, ""), table) for key in ("image_height", "image_width"))
        stem = PurePath(spellings(name)[-1]).stem
        role = split_role(split or table.file.stem) or split_role(table.file.parent.name)
        records.images.append(ImageRecord(finder.find(name, role), stem, table.file, line, declared_size(*sides)))
    numbers = [cells[key] for key in "abcd"]
    if cells["class"] or any(numbers):
        box = _corners(table.columns, [_number(text, table) for text in numbers])
        records.add_object(box, cells["class"], line, owner=positions[split, name])


def _corners(columns: Columns, numbers: list[float]) -> tuple[float, float, float, float]:
    a, b, c, d = numbers
    if columns.form == "size":
        return a, b, a + c, b + d
    if columns.form == "centre":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def _settle_unit(table: Table, parts: dict[str, Records]) -> None:
    """Take boxes that all lie within 0 to 1 for fractions of the image, and say so."""
    numbers = [value for records in parts.values() for box in records.boxes for value in box if math.isfinite(value)]
    if not numbers or not all(-0.001 <= value <= MAX_FRACTION for value in numbers):
        return
    for records in parts.values():
        records.fractions, records.states_sizes = True, False
    message = "all boxes lie within 0 to 1: taken for fractions of the image"
    next(iter(parts.values())).add_problem(table.file, None, "fractions", message, "noted")


def _number(text: str, table: Table) -> float:
    """A number; with a decimal comma where commas do not part the columns."""
    return as_number(text.replace(",", ".") if table.delimiter != "," else text)


FORMATS.register("csv")(
    DataFormat(
        "csv",
        "a .csv (or train.csv, test.csv) with columns filename, class, xmin, ymin, xmax, ymax, near the images",
        find,
    )
)
