"""One table for all images: ``filename, width, height, class, xmin, ymin, xmax, ymax`` with a header line."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from singleshot.data.records import ImageRecord, Records
from singleshot.errors import DataError

LOOKED_FOR = "csv: a .csv with the columns filename, class, xmin, ymin, xmax, ymax beside its images"
SYNONYMS = {
    "filename": ("filename", "file", "image", "image_path", "path", "image_id"),
    "class": ("class", "label", "class_name", "name"),
    "xmin": ("xmin", "x1", "x_min"),
    "ymin": ("ymin", "y1", "y_min"),
    "xmax": ("xmax", "x2", "x_max"),
    "ymax": ("ymax", "y2", "y_max"),
}
MAX_HEADER_BYTES = 4096


@dataclass(frozen=True)
class CsvLayout:
    """One csv file; its images lie beside it, in ``images/``, or where the table says."""

    file: Path
    splits: tuple[str, ...] = ()

    def read(self, split: str | None) -> Records:
        """The records of every line; a line without a class is an image without objects."""
        records = Records()
        positions: dict[str, int] = {}
        with self.file.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
            reader = csv.DictReader(handle)
            columns = _columns(reader.fieldnames or [])
            records.states_sizes = "width" in columns
            for row in reader:
                _read_row(
                    records,
                    self.file,
                    reader.line_num,
                    {key: row.get(name) for key, name in columns.items()},
                    positions,
                )
        records.class_names = tuple(sorted({str(label) for label in records.labels if label}))
        return records


def find(path: Path) -> CsvLayout | None:
    """Recognise a csv with the wanted columns: the file itself, or the only such file of a folder."""
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    known = [file for file in files if file.suffix.lower() == ".csv" and _has_columns(file)]
    if len(known) > 1:
        raise DataError(f"{path}: several csv files with labels ({', '.join(file.name for file in known)}): name one")
    return CsvLayout(known[0]) if known else None


def _has_columns(file: Path) -> bool:
    with file.open(encoding="utf-8-sig", errors="replace") as handle:
        header = next(csv.reader([handle.readline(MAX_HEADER_BYTES)]), [])
    return set(SYNONYMS) <= set(_columns(header))


def _columns(header: Iterable[str]) -> dict[str, str]:
    """Our name -> the table's name of each known column."""
    table = {name.strip().lower(): name for name in header}
    wanted = {**SYNONYMS, "width": ("width",), "height": ("height",)}
    found = {key: next((name for name in names if name in table), None) for key, names in wanted.items()}
    return {key: table[name] for key, name in found.items() if name}


def _read_row(records: Records, file: Path, line: int, row: dict[str, str | None], positions: dict[str, int]) -> None:
    name = (row["filename"] or "").strip()
    if not name:
        records.add_problem(file, line, "bad-record", "the line names no image")
        return
    if name not in positions:
        positions[name] = len(records.images)
        size = tuple(_number(row.get(key)) for key in ("height", "width"))
        declared = (int(size[0]), int(size[1])) if min(size) >= 1 else None
        records.images.append(ImageRecord(_image_path(file.parent, name), PurePath(name).stem, file, line, declared))
    label = (row["class"] or "").strip()
    corners = [row[key] for key in ("xmin", "ymin", "xmax", "ymax")]
    if label or any(corners):
        box = tuple(_number(text) for text in corners)
        records.add_object(box, label, line, owner=positions[name])  # type: ignore[arg-type]


def _image_path(folder: Path, name: str) -> Path:
    near = (folder / name, folder / "images" / name, folder / PurePath(name).name)
    return next((path for path in near if path.is_file()), near[0])


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
