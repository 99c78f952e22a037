"""One JSON document, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.sinks import SINKS, Run
from singleshot.prediction.sinks.base import FileSink, failure_record, record_of, run_head, to_json


class JsonSink(FileSink):
    """One JSON document, one image per line: singleshot, class_names, images, failed, complete.

    ``complete`` is false while the run goes on, and stays so when it is interrupted. `read_json` gives the `Detections`
    back.
    """

    top = "detections.json"

    def __init__(self, run: Run) -> None:
        before = run.folder.journal.done_in(self.top)
        self._failed = [{"path": path, "error": error} for path, error in before.items() if error]
        super().__init__(run)

    def _begin(self) -> str:
        return to_json(run_head(self._run))[:-1] + ', "images": ['

    def _text(self, prediction: Prediction) -> str:
        return self._listed([to_json(record_of(prediction))])

    def fail(self, failure: Failure) -> None:
        """Remember a failed image for the end of the document."""
        super().fail(failure)
        self._failed.append(failure_record(failure))

    def _end(self, *, complete: bool) -> str:
        return f'\n], "failed": {to_json(self._failed)}, "complete": {to_json(complete)}}}\n'


def read_json(path: Path) -> list[Detections]:
    """Read a document that `JsonSink` or `JsonLinesSink` wrote; images that failed are not among the results.

    Raises:
        ValueError: another document.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        document: Any = json.loads(text)
    except ValueError:
        head, *records = (json.loads(line) for line in text.split("\n") if line)
        document = head | {"images": [record for record in records if "detections" in record]}
    if not isinstance(document, dict) or "class_names" not in document:
        raise ValueError(f"{path}: not a detections file of singleshot")
    ids = {"category_ids": document.get("category_ids", ())}
    return [Detections.from_dict(record | ids, document["class_names"]) for record in document.get("images", ())]


SINKS.register("json")(JsonSink)
