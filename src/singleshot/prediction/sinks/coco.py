"""COCO results."""

from __future__ import annotations

from pathlib import Path

from singleshot.prediction.frames import Prediction
from singleshot.prediction.sinks import SINKS, Run
from singleshot.prediction.sinks.base import FileSink, path_of, to_json


class CocoSink(FileSink):
    """A COCO results file, as ``pycocotools`` reads it.

    The image id is the number that the file's name is (COCO's own images), else the path below the common folder.
    """

    top = "coco.json"

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._ids: set[int] = set()
        for path, error in run.folder.journal.done_in(self.top).items():
            if not error:
                self._image_id(Path(path))

    def _begin(self) -> str:
        return "["

    def _text(self, prediction: Prediction) -> str:
        rows = prediction.detections.to_coco(self._image_id(path_of(prediction)))
        return self._listed([to_json(row) for row in rows])

    def _image_id(self, path: Path) -> int | str:
        digits = path.stem if path.stem.isdecimal() and path.stem.isascii() and len(path.stem) <= 15 else ""
        if not digits or int(digits) in self._ids:
            return self._run.names.relative(path).as_posix()
        self._ids.add(int(digits))
        return int(digits)

    def _end(self, *, complete: bool) -> str:
        return "\n]\n"


SINKS.register("coco")(CocoSink)
