"""A table with a row for each object."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from singleshot.core.wording import no_formula
from singleshot.prediction.converters import CSV_COLUMNS
from singleshot.prediction.frames import Prediction
from singleshot.prediction.sinks import SINKS
from singleshot.prediction.sinks.base import FileSink

TIME_COLUMNS = ("frame", "time_s")
TRACK_COLUMNS = ("track_id",)


class CsvSink(FileSink):
    """One row per object; of videos with the frame's name, number and time, and of tracks with their ids."""

    top = "detections.csv"

    def _begin(self) -> str:
        timed, tracked = TIME_COLUMNS if self._run.timed else (), TRACK_COLUMNS if self._run.tracked else ()
        return csv_lines([(*CSV_COLUMNS, *timed, *tracked)])

    def _text(self, prediction: Prediction) -> str:
        frame, found = prediction.frame, prediction.detections
        rows = found.to_rows()
        if self._run.timed:
            at = ("", "") if frame.time_s is None else (frame.index, f"{frame.time_s:.6f}")
            rows = [(frame.name, *row[1:], *at) for row in rows]
        if self._run.tracked and found.track_ids is not None:
            rows = [(*row, track_id) for row, track_id in zip(rows, found.track_ids.tolist(), strict=True)]
        return csv_lines(rows)


def csv_lines(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV text; names as `no_formula` says."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[no_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows])
    return text.getvalue()


SINKS.register("csv")(CsvSink)
