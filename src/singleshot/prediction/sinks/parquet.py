"""A Parquet table with a row for each object, by pyarrow."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from singleshot.core.lazy import lazy_module
from singleshot.errors import MissingExtraError
from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.sinks import SINKS, Run

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet as tables
else:
    pyarrow, tables = lazy_module("pyarrow"), lazy_module("pyarrow.parquet")

_ROWS = 20_000
"""Rows that are written together."""


class ParquetSink:
    """Written beside its name and moved there at the end, as a Parquet file is none before its last byte."""

    top = "detections.parquet"

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None

    def __enter__(self) -> Self:
        if find_spec("pyarrow") is None:
            raise MissingExtraError("pyarrow", "parquet", "`save='parquet'`")
        self._target = self._run.folder.claim(Path(self.top))
        self._draft = self._target.with_name(f".{self._target.name}.part")
        self._draft.unlink(missing_ok=True)
        self._writer = tables.ParquetWriter(str(self._draft), _schema(), compression="zstd")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._flush()
            self._writer.close()
            self._draft.replace(self._target)
        finally:
            self._draft.unlink(missing_ok=True)

    def write(self, prediction: Prediction) -> None:
        """Add the objects of one image."""
        found, frame = prediction.detections, prediction.frame
        tracks = [None] * len(found) if found.track_ids is None else found.track_ids.tolist()
        for number, (box, score, class_id, name) in enumerate(found):
            x1, y1, x2, y2 = box.tolist()
            self._rows.append(
                {"image": frame.name, "frame": frame.index, "time_s": frame.time_s, "class_id": class_id}
                | {"class_name": name, "score": score, "x1": x1, "y1": y1, "x2": x2, "y2": y2}
                | {"track_id": tracks[number]}
            )
        if len(self._rows) >= _ROWS:
            self._flush()

    def fail(self, failure: Failure) -> None:
        """A table of objects has no place for failures."""

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            self._writer.write_table(pyarrow.Table.from_pylist(rows, schema=_schema()))


def _schema() -> Any:
    text, whole, number = pyarrow.string(), pyarrow.int64(), pyarrow.float32()
    columns = [("image", text), ("frame", whole), ("time_s", pyarrow.float64()), ("class_id", whole)]
    columns += [("class_name", text), ("score", number), *((name, number) for name in ("x1", "y1", "x2", "y2"))]
    return pyarrow.schema([*columns, ("track_id", whole)])


SINKS.register("parquet")(ParquetSink)
