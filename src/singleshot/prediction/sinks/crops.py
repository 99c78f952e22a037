"""Every object as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from singleshot.prediction.frames import Prediction
from singleshot.prediction.output_names import folder_names
from singleshot.prediction.sinks import SINKS, Run
from singleshot.prediction.sinks.base import FolderSink, path_of


class CropSink(FolderSink):
    """Every object as a picture of its own, in a folder per class."""

    top = "crops"

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._folders: Mapping[str, str] = dict(zip(run.class_names, folder_names(run.class_names), strict=True))

    def write(self, prediction: Prediction) -> None:
        """Save the objects of one image; boxes without a whole pixel are left out."""
        height, width = prediction.frame.pixels.shape[:2]
        path = path_of(prediction)
        for number, (box, _, _, name) in enumerate(prediction.detections, start=1):
            x1, y1, x2, y2 = box.round().astype(int)
            crop = prediction.frame.pixels[max(y1, 0) : max(min(y2, height), 0), max(x1, 0) : max(min(x2, width), 0)]
            if crop.size:
                self._run.write_picture(partial(self._place, path, number, name), crop)

    def _place(self, path: Path, number: int, class_name: str, suffix: str) -> Path:
        return self._top / self._folders[class_name] / self._run.names.crop(path, number, suffix)


SINKS.register("crops")(CropSink)
