"""Tables with a line for each object: ``filename, width, height, class, xmin, ymin, xmax, ymax`` and the like."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

from singleshot.core.files import decode_text
from singleshot.data.bad_records import Problem
from singleshot.data.formats.csv_columns import (
    DELIMITERS,
    guess_columns,
    missing_columns,
    read_header,
)
from singleshot.data.formats.csv_layout import CsvLayout, CsvTable, plain_rows, without_separator
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.paths import subfolders, visible
from singleshot.data.split_names import is_whole, split_role
from singleshot.errors import DataError

MAX_HEADER_BYTES = 65536
SUFFIXES = (".csv", ".tsv")
SELECTION = "sub-"


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
    tables, problems = _without_originals(tables)
    names = [_split_name(table.file, path) for table in tables]
    if len(tables) == 1 and not split_role(names[0]):
        names = [""]
    classes = _class_list([table.file.parent for table in tables])
    named = _class_names([path, *(table.file.parent for table in tables)])
    return CsvLayout(path, _named_apart(names, tables), classes, named, tuple(problems))


def _without_originals(tables: list[CsvTable]) -> tuple[list[CsvTable], list[Problem]]:
    """The tables without those of which a part lies beside them as ``sub-NAME.csv``, as jetson-inference selects it."""
    files = {table.file for table in tables}
    parts = {table.file: table.file.with_name(f"{SELECTION}{table.file.name}") for table in tables}
    problems = [
        Problem(file, None, "other-settings", "noted", f"passed over: {part.name}, a selection of it, is read")
        for file, part in parts.items()
        if part in files
    ]
    return [table for table in tables if parts[table.file] not in files], problems


def _named_apart(names: list[str], tables: list[CsvTable]) -> dict[str, CsvTable]:
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


def _class_names(folders: list[Path]) -> dict[str, str]:
    """What Open Images' ``class-descriptions-boxable.csv`` calls the classes that its tables give by ``/m/...``."""
    for file in (file for folder in dict.fromkeys(folders) for file in visible(folder, ".csv")):
        if file.stem.lower().startswith("class-descriptions"):
            rows = [row for row in plain_rows(file) if len(row) == 2]
            return {key.strip(): name.strip() for key, name in rows if key.startswith("/")}
    return {}


def _class_list(folders: list[Path]) -> tuple[str, ...]:
    """Names in the order of their numbers, from a ``classes.csv`` of ``name,number`` lines as RetinaNet has it."""
    for file in (file for folder in dict.fromkeys(folders) for file in visible(folder, ".csv")):
        if not file.stem.lower().startswith("class"):
            continue
        rows = [row for row in plain_rows(file) if row]
        if rows and all(len(row) == 2 and row[1].strip().isdecimal() for row in rows):
            return tuple(name.strip() for name, _ in sorted(rows, key=lambda row: int(row[1])))
    return ()


def _head(file: Path) -> str:
    """The first lines."""
    try:
        with file.open("rb") as handle:
            head = handle.read(MAX_HEADER_BYTES)
        if len(head) == MAX_HEADER_BYTES:  # whole lines, or the cut would fall into a character
            head = head[: head.rfind(b"\n") + 1 + (b"\n\0" in head)] or head
        return without_separator(decode_text(head).text)
    except (OSError, UnicodeDecodeError):
        return ""


def _has_some_columns(file: Path) -> bool:
    """Whether the first line has most of the wanted names, so that the table is meant and damaged."""
    first = (_head(file).splitlines() or [""])[0]
    return any(len(missing_columns(first.replace('"', "").split(sign))) <= 2 for sign in DELIMITERS)


def _recognise(file: Path) -> CsvTable:
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
            return CsvTable(file, sign, columns)
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


FORMATS.register("csv")(
    DataFormat(
        "csv",
        "a .csv (or train.csv, test.csv) with columns filename, class, xmin, ymin, xmax, ymax, near the images",
        find,
    )
)
