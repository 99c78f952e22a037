"""What tables hold: a line for each object, whose image is looked for near the table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np

from singleshot.core.files import DecodedText, read_text
from singleshot.core.wording import from_cell
from singleshot.data.bad_records import Problem, guessed_encoding
from singleshot.data.file_index import FileIndex
from singleshot.data.formats.csv_columns import AUTOML_SETS, UNASSIGNED, CsvColumns
from singleshot.data.notation import as_written
from singleshot.data.paths import Locator, is_possible, spellings
from singleshot.data.records import ImageRecord, Records, declared_size
from singleshot.data.split_names import Role, may_hold, split_role
from singleshot.data.values import as_number
from singleshot.errors import DataError
from singleshot.images.read import IMAGE_SUFFIXES

MAX_CSV_BYTES = 2**30
IMAGE_FOLDERS = ("images", "Images", "JPEGImages", "imgs", "img", "image", "photos")
# Boxes up to here are fractions of the image when all of a table are.
MAX_FRACTION = 1.001


@dataclass(frozen=True)
class CsvTable:
    """A file, and how it is written."""

    file: Path
    delimiter: str
    columns: CsvColumns


@dataclass(frozen=True)
class CsvLayout:
    """Tables; the images lie beside them, in ``images/``, elsewhere below the folder, or where the table says.

    Attributes:
        root: the folder of the data set.
        tables: the table of each split; the key of a data set without splits is ``""``.
        class_list: names in their order, from a table ``name,number``; empty for the sorted names of all tables.
        class_names: names for what the tables call the classes, from Open Images' ``class-descriptions`` table.
        problems: what was noted while it was recognised.
    """

    root: Path
    tables: dict[str, CsvTable]
    class_list: tuple[str, ...] = ()
    class_names: Mapping[str, str] = field(default_factory=dict)
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
            forms=tuple(dict.fromkeys(table.columns.form for table in self.tables.values())),
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
                records.labels = [self.class_names.get(str(label), str(label)) for label in records.labels]
                parts[own or name] = records
        return parts


class _ImageFinder:
    """Finds images by what a table calls them: near it, by its end, or by their name in the folder."""

    def __init__(self, root: Path, files: list[Path]) -> None:
        self._root = root
        near = [place for file in files for place in (file.parent, *_beside(file.parent))]
        self._locator = Locator([root, *near, *_beside(root)])

    def find(self, name: str, role: Role | None) -> Path:
        """The image, or where it should be; folders of other splits than ``role`` do not count."""
        found = self._locator.find(name)
        if found is None:
            same = self._index.called(PurePath(spellings(name)[-1]).name)  # tables of ids have no suffix
            mine = [path for path in same if may_hold(PurePath(path).parent.parts, role)]
            found = self._root / mine[0] if len(mine) == 1 else None
        return found or self._root / name.replace("\\", "/")

    @cached_property
    def _index(self) -> FileIndex:
        return FileIndex(self._root, IMAGE_SUFFIXES)


def _beside(folder: Path) -> Iterator[Path]:
    """The usual folders of images in a folder and beside it."""
    return (place / name for place in (folder, folder.parent) for name in IMAGE_FOLDERS if (place / name).is_dir())


def table_text(file: Path) -> DecodedText:
    """The text of a table, and how it was decoded."""
    try:
        return read_text(file, MAX_CSV_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


def plain_rows(file: Path) -> list[list[str]]:
    """The rows of a table with commas and without a header: a list of classes.

    Raises:
        DataError: it cannot be read.
    """
    reader = csv.reader(io.StringIO(table_text(file).text, newline=""))
    try:
        return list(reader)
    except csv.Error as error:
        raise DataError(f"{file}:{reader.line_num}: not valid csv: {error}") from error


def without_separator(text: str) -> str:
    """The text with an empty line in place of ``sep=;``, which spreadsheets put first."""
    return re.sub(r'\A"?sep=."?(?=[\r\n])', "", text, flags=re.IGNORECASE)


def _read_table(table: CsvTable, finder: _ImageFinder) -> dict[str, Records]:
    """The records of every line, by the split that the line states (``""`` where it states none)."""
    text = table_text(table.file)
    parts: dict[str, Records] = {}
    positions: dict[tuple[str, str], int] = {}
    reader = csv.reader(
        io.StringIO(without_separator(text.text), newline=""), skipinitialspace=True, delimiter=table.delimiter
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
    if len(parts) > 1 and "" in parts:
        message = f"{len(parts[''].images)} images are in no split, others are: only the whole data set has them"
        first.add_problem(table.file, None, "no-split", message, "noted")
    if text.guessed:
        first.problems.append(guessed_encoding(table.file, text.encoding))
    _settle_unit(table, parts)
    return parts


def _read_row(
    parts: dict[str, Records],
    table: CsvTable,
    line: int,
    row: list[str],
    positions: dict[tuple[str, str], int],
    finder: _ImageFinder,
) -> None:
    """Append what a line says; a line without a class is an image without objects."""
    cells = {
        key: from_cell(row[place].strip()) if place < len(row) else "" for key, place in table.columns.places.items()
    }
    stated = cells.get("split", "")
    split = "" if stated.upper() == UNASSIGNED else AUTOML_SETS.get(stated.upper(), stated)
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


def _corners(columns: CsvColumns, numbers: list[float]) -> tuple[float, float, float, float]:
    a, b, c, d = numbers
    if columns.form == "size":
        return a, b, a + c, b + d
    if columns.form == "centre":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def _settle_unit(table: CsvTable, parts: dict[str, Records]) -> None:
    """Take boxes whose numbers all lie within 0 to 1 for fractions of the image, and say so."""
    boxes = np.concatenate([records.boxes.as_view() for records in parts.values()])
    numbers = as_written(boxes, table.columns.form)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers) or numbers.min() < -0.001 or numbers.max() > MAX_FRACTION:
        return
    for records in parts.values():
        records.fractions, records.states_sizes = True, False
    message = "all boxes lie within 0 to 1: taken for fractions of the image"
    next(iter(parts.values())).add_problem(table.file, None, "fractions", message, "noted")


def _number(text: str, table: CsvTable) -> float:
    """A number; with a decimal comma where commas do not part the columns."""
    return as_number(text.replace(",", ".") if table.delimiter != "," else text)
