"""Text to read: what there is in each image, and what was found."""

from __future__ import annotations

from collections.abc import Iterable

from singleshot.prediction.frames import Prediction
from singleshot.prediction.sinks import SINKS
from singleshot.prediction.sinks.base import FileSink, path_of


class TextSink(FileSink):
    """The form of ssd.pytorch's ``test1.txt``, with corners in pixels of the image and names of classes.

    The objects that are there come first, where the run knows them.
    """

    top = "predictions.txt"

    def _text(self, prediction: Prediction) -> str:
        path = path_of(prediction)
        lines = []
        if self._run.truth is not None:
            lines.append(f"GROUND TRUTH FOR: {path.stem}")
            lines += [f"label: {_joined(item.box_xyxy)} || {item.name}" for item in self._run.truth.get(path, ())]
        else:
            lines.append(f"IMAGE: {path.stem}")
        lines.append("PREDICTIONS:")
        for number, (box, score, _, name) in enumerate(prediction.detections, start=1):
            lines.append(f"{number} label: {name} score: {score:.6f} {_joined(box)}")
        return "\n".join(lines) + "\n\n"


def _joined(box: Iterable[float]) -> str:
    return " || ".join(f"{value:.2f}" for value in box)


SINKS.register("text")(TextSink)
