"""A table with a row for each object."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from singleshot.prediction.converters import CSV_COLUMNS
from singleshot.prediction.frames import Prediction
from singleshot.prediction.sinks import SINKS
from singleshot.prediction.sinks.base import FileSink


class CsvSink(FileSink):
    """One row per object."""

    top = "detections.csv"

    def _begin(self) -> str:
        return _csv_lines([CSV_COLUMNS])

    def _text(self, prediction: Prediction) -> str:
        return _csv_lines(prediction.detections.to_rows())


def _csv_lines(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


SINKS.register("csv")(CsvSink)
