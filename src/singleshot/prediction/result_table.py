"""Results as a Parquet table: one schema, whether one run writes it whole or many workers in parts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from singleshot.core.lazy import lazy_module
from singleshot.errors import DataError
from singleshot.images.parquet_images import check_pyarrow
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Failure, Result
from singleshot.version import __version__

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.dataset as datasets
else:
    pyarrow, datasets = lazy_module("pyarrow"), lazy_module("pyarrow.dataset")

SCHEMA_VERSION = 2
"""Of the columns; the files say it. Version 1 (singleshot 0.3 and before) had no sizes, errors and empty images."""

_KEY = b"singleshot"


@cache
def columns() -> Any:
    """The schema: a row for each object; an image without objects, or one that cannot be read, has one row, too."""
    text, whole, number = pyarrow.string(), pyarrow.int64(), pyarrow.float32()
    named = [("image", text), ("frame", whole), ("time_s", pyarrow.float64()), ("class_id", whole)]
    named += [("class_name", text), ("score", number), *((name, number) for name in ("x1", "y1", "x2", "y2"))]
    named += [("track_id", whole), ("height", pyarrow.int32()), ("width", pyarrow.int32()), ("error", text)]
    return pyarrow.schema(named)


def schema_of(class_names: Sequence[str], category_ids: Sequence[int] = ()) -> Any:
    """`columns`, with the version and what class ids mean in the file's metadata."""
    about = {"schema": SCHEMA_VERSION, "singleshot": __version__, "class_names": list(class_names)}
    return columns().with_metadata({_KEY: json.dumps(about | {"category_ids": list(category_ids)})})


def rows_of(result: Result, image: str | None = None) -> list[dict[str, Any]]:
    """What a table says of one image: a row for each object, best first; one of nulls where there is none.

    Args:
        result: of the image.
        image: its name, where the result does not tell it.
    """
    if isinstance(result, Failure):
        return [{"image": _text(str(result.path) if image is None else image), "error": _text(str(result.error))}]
    found, frame = result.detections, result.frame
    height, width = found.image_size_hw
    head = {"image": _text(frame.name if image is None else image), "frame": frame.index, "time_s": frame.time_s}
    head |= {"height": height, "width": width}
    tracks = [None] * len(found) if found.track_ids is None else found.track_ids.tolist()
    return [
        head
        | {"class_id": class_id, "class_name": name, "score": score, "track_id": track}
        | dict(zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True))
        for (box, score, class_id, name), track in zip(found, tracks, strict=True)
    ] or [head]


def _text(name: str) -> str:
    """What UTF-8 can hold: of a name in another encoding, escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class TableRecord:
    """What a table says of one image.

    Attributes:
        image: its name.
        detections: what was found; ``None`` where it could not be read.
        error: why not; empty where it could.
    """

    image: str
    detections: Detections | None
    error: str = ""


def read_parquet(path: str | Path) -> list[Detections]:
    """The detections of every image of a run; images that failed are not among them.

    Args:
        path: ``detections.parquet``: a file, or the folder of parts that an engine wrote; or its address (``s3://``).

    Raises:
        DataError: it is no table of singleshot, or of a version that this one does not know.
    """
    return [record.detections for record in read_records(path) if record.detections is not None]


def read_records(path: str | Path) -> Iterator[TableRecord]:
    """Images one by one, in the order of the run, those that failed included; as `read_parquet`."""
    check_pyarrow("reading Parquet")
    try:
        dataset = datasets.dataset(str(path), format="parquet")
        about = json.loads((dataset.schema.metadata or {}).get(_KEY, b"{}"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    version = about.get("schema")
    if version != SCHEMA_VERSION:
        what = "no table of detections" if version is None else f"of version {version} of the table"
        raise DataError(f"{path}: {what}, and this singleshot reads version {SCHEMA_VERSION}")
    for (image, _), own in groupby(_rows(path, dataset), key=lambda row: (row["image"], row["frame"])):
        yield _record(image, list(own), about)


def _rows(path: str | Path, dataset: datasets.Dataset) -> Iterator[dict[str, Any]]:
    try:
        for batch in dataset.to_batches():
            batch.validate(full=True)
            yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: damaged: {str(error).splitlines()[0]}") from None


def _record(image: str, rows: Sequence[dict[str, Any]], about: dict[str, Any]) -> TableRecord:
    first = rows[0]
    if first["error"] is not None:
        return TableRecord(image, None, first["error"])
    found = [row for row in rows if row["class_id"] is not None]
    tracked = bool(found) and found[0]["track_id"] is not None
    boxes = np.array([[row[side] for side in ("x1", "y1", "x2", "y2")] for row in found], np.float32).reshape(-1, 4)
    detections = Detections(
        boxes,
        np.array([row["score"] for row in found], np.float32),
        np.array([row["class_id"] for row in found], np.int64),
        about["class_names"],
        (first["height"], first["width"]),
        None if first["time_s"] is not None else Path(image),
        tuple(about["category_ids"]),
        track_ids=np.array([row["track_id"] for row in found], np.int64) if tracked else None,
    )
    return TableRecord(image, detections)


def to_table(named: Iterable[tuple[str, Result]], schema: Any) -> Any:
    """A ``pyarrow.Table`` of images with their names.

    Args:
        named: name and result of each.
        schema: by `schema_of`.
    """
    rows = [row for image, result in named for row in rows_of(result, image)]
    return pyarrow.Table.from_pylist(rows, schema=schema)
