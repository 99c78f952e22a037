"""A Parquet table with a row for each object, by pyarrow: see `singleshot.prediction.result_table`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from singleshot.core.files import put_in_place
from singleshot.core.lazy import lazy_module
from singleshot.images.parquet_images import check_pyarrow
from singleshot.prediction.frames import Failure, Prediction, Result
from singleshot.prediction.result_table import rows_of, schema_of
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
    needs_pixels: ClassVar[bool] = False

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None

    def __enter__(self) -> Self:
        check_pyarrow("`save='parquet'`")
        self._target = self._run.folder.claim(Path(self.top))
        self._draft = self._target.with_name(f".{self._target.name}.part")
        self._draft.unlink(missing_ok=True)
        self._schema = schema_of(self._run.class_names, self._run.category_ids)
        self._writer = tables.ParquetWriter(str(self._draft), self._schema, compression="zstd")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._flush()
            self._writer.close()
            put_in_place(self._draft, self._target)
        finally:
            self._draft.unlink(missing_ok=True)

    def write(self, prediction: Prediction) -> None:
        """Add the objects of one image."""
        self._add(prediction)

    def fail(self, failure: Failure) -> None:
        """Add a row that says why."""
        self._add(failure)

    def _add(self, result: Result) -> None:
        self._rows += rows_of(result)
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []  # only now: rows of a table that could not be written are written, or missed, at the end


SINKS.register("parquet")(ParquetSink)
