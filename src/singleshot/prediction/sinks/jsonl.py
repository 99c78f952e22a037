"""JSON Lines."""

from __future__ import annotations

from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.sinks import SINKS
from singleshot.prediction.sinks.base import FileSink, failure_record, record_of, run_head, to_json


class JsonLinesSink(FileSink):
    """JSON Lines: a line about the run, then one per image as in the JSON document; a failed one has an ``error``."""

    top = "detections.jsonl"

    def _begin(self) -> str:
        return to_json(run_head(self._run)) + "\n"

    def _text(self, prediction: Prediction) -> str:
        return to_json(record_of(prediction)) + "\n"

    def fail(self, failure: Failure) -> None:
        """Add the reason."""
        super().fail(failure)
        self._append(to_json(failure_record(failure)) + "\n")


SINKS.register("jsonl")(JsonLinesSink)
