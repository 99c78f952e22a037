"""Pictures with boxes."""

from __future__ import annotations

from singleshot.prediction.frames import Prediction
from singleshot.prediction.sinks import SINKS
from singleshot.prediction.sinks.base import FolderSink, drawn, path_of


class ImageSink(FolderSink):
    """Pictures with boxes."""

    top = "images"

    def write(self, prediction: Prediction) -> None:
        """Draw and save one picture."""
        run = self._run
        path = path_of(prediction)
        run.write_picture(lambda suffix: self._top / run.names.picture(path, suffix), drawn(prediction, run))


SINKS.register("images")(ImageSink)
