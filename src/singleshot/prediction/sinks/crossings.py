"""A table of the tracks that crossed lines."""

from __future__ import annotations

from singleshot.prediction.frames import Prediction
from singleshot.prediction.sinks import SINKS
from singleshot.prediction.sinks.base import FileSink
from singleshot.prediction.sinks.csv import csv_lines

COLUMNS = ("source", "frame", "time_s", "line", "direction", "track_id", "class_name")


class CrossingSink(FileSink):
    """One row per crossing."""

    top = "crossings.csv"

    def _begin(self) -> str:
        return csv_lines([COLUMNS])

    def _text(self, prediction: Prediction) -> str:
        frame = prediction.frame
        place = (frame.source or frame.name, frame.index, "" if frame.time_s is None else f"{frame.time_s:.6f}")
        return csv_lines(
            (*place, own.line, own.direction, own.track_id, own.class_name) for own in prediction.crossings
        )


SINKS.register("crossings")(CrossingSink)
