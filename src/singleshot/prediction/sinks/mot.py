"""Tracks as the MOT Challenge takes them: a text file for each video."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Self

import numpy as np

from singleshot.errors import ConfigError
from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.output_names import UniqueNames, safe_name
from singleshot.prediction.sinks import SINKS, Run


class MotSink:
    """Lines ``frame,id,left,top,width,height,score,-1,-1,-1``, frames from 1; what has no track is left out."""

    top = "mot"

    def __init__(self, run: Run) -> None:
        self._run = run
        self._names = UniqueNames()
        self._files: dict[str, Path] = {}
        self._source: str | None = None
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        (self._run.folder.path / self.top).mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def write(self, prediction: Prediction) -> None:
        """Add the tracks of one frame.

        Raises:
            ConfigError: nothing was tracked.
        """
        found, frame = prediction.detections, prediction.frame
        if found.track_ids is None:
            raise ConfigError("`save='mot'` writes tracks: follow the objects by `track=True`")
        source = frame.source
        if self._file is None or source != self._source:
            self._close()
            if source not in self._files:
                name = self._names.take(Path(f"{safe_name(Path(source).stem or 'images')}.txt"))
                self._files[source] = self._run.folder.claim(Path(self.top) / name)
                self._files[source].unlink(missing_ok=True)  # of an earlier run, or a link
            self._file = self._files[source].open("a", encoding="ascii", buffering=1)  # streams come in turns
            self._source = source
        rows = np.flatnonzero(found.track_ids > 0)
        for row, track_id in zip(rows, found.track_ids[rows].tolist(), strict=True):
            x0, y0, x1, y1 = found.boxes_xyxy[row].tolist()
            box = ",".join(f"{value:.2f}" for value in (x0, y0, x1 - x0, y1 - y0))
            self._file.write(f"{frame.index + 1},{track_id},{box},{found.scores[row]:.4f},-1,-1,-1\n")

    def fail(self, failure: Failure) -> None:
        """A frame that cannot be read has no tracks."""

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


SINKS.register("mot")(MotSink)
