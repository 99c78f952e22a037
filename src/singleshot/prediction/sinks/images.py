"""Pictures with boxes."""

from __future__ import annotations

from singleshot.images.draw import draw_detections
from singleshot.prediction.frames import Prediction
from singleshot.prediction.sinks import SINKS
from singleshot.prediction.sinks.base import FolderSink, path_of


class ImageSink(FolderSink):
    """Pictures with boxes."""

    top = "images"

    def write(self, prediction: Prediction) -> None:
        """Draw and save one picture."""
        run = self._run
        path = path_of(prediction)
        picture = draw_detections(
            prediction.frame.pixels, prediction.detections, labels=run.labels, line_width=run.line_width
        )
        run.write_picture(lambda suffix: self._top / run.names.picture(path, suffix), picture)


SINKS.register("images")(ImageSink)
