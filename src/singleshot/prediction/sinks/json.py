"""One JSON document, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from singleshot.core.files import read_bytes
from singleshot.core.json_text import parse_json
from singleshot.errors import DataError
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.sinks import SINKS, Run
from singleshot.prediction.sinks.base import FileSink, failure_record, record_of, run_head, to_json

MAX_BYTES = 2**31


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
        DataError: it is damaged, or another document.
        OSError: it cannot be read.
    """
    try:
        text = read_bytes(path, MAX_BYTES).decode()
        try:
            document: Any = parse_json(text)
        except ValueError:
            head, *records = (parse_json(line) for line in text.split("\n") if line)
            document = head | {"images": [record for record in records if "detections" in record]}
        if not isinstance(document, dict) or "class_names" not in document:
            raise ValueError("there are no class_names")
        ids = {"category_ids": document.get("category_ids", ())}
        return [Detections.from_dict(record | ids, document["class_names"]) for record in document.get("images", ())]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not a detections file of singleshot, or damaged: {error}") from error


SINKS.register("json")(JsonSink)
