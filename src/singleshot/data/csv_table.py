"""Tables with a line for each object: ``filename, width, height, class, xmin, ymin, xmax, ymax``."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from singleshot.data.records import ImageRecord, Records, declared_size
from singleshot.errors import DataError

LOOKED_FOR = (
    "csv: a .csv (or train.csv, test.csv) with columns filename, class, xmin, ymin, xmax, ymax, beside the images"
)
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
    """Tables; the images lie beside them, in ``images/``, or where the table says.

    Attributes:
        files: the table of each split; the key of a data set without splits is ``""``.
    """

    files: dict[str, Path]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``train`` for ``train_labels.csv``."""
        return tuple(name for name in self.files if name)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every table; the classes are those of all."""
        wanted = self.files if split is None else split.split("+")
        parts = {name: _read_table(file) for name, file in self.files.items()}
        records = Records(states_sizes=all(part.states_sizes for part in parts.values()))
        for name in wanted:
            records.extend(parts[name])
        labels = {str(label) for part in parts.values() for label in part.labels if label}
        records.class_names = tuple(sorted(labels))
        return records


def find(path: Path) -> CsvLayout | None:
    """Recognise tables with the wanted columns: a file, one file in a folder, or one for each split."""
    if path.is_file():
        return CsvLayout({"": path}) if path.suffix.lower() == ".csv" and _has_columns(path) else None
    files = [file for file in sorted([*path.glob("*.csv"), *path.glob("*/_annotations.csv")]) if _has_columns(file)]
    if len(files) < 2:
        return CsvLayout({"": files[0]}) if files else None
    return CsvLayout({_split_name(file): file for file in files})


def _split_name(file: Path) -> str:
    return file.parent.name if file.stem == "_annotations" else file.stem.removesuffix("_labels")


def _read_table(file: Path) -> Records:
    """The records of every line; a line without a class is an image without objects."""
    records = Records()
    positions: dict[str, int] = {}
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
        reader = csv.DictReader(handle)
        columns = _columns(reader.fieldnames or [])
        records.states_sizes = "width" in columns
        try:
            for row in reader:
                values = {key: row.get(name) for key, name in columns.items()}
                _read_row(records, file, reader.line_num, values, positions)
        except csv.Error as error:
            raise DataError(f"{file}:{reader.line_num}: not valid csv: {error}") from error
    return records


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
        declared = declared_size(_number(row.get("height")), _number(row.get("width")))
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
