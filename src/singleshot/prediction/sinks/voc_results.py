"""Detections as the VOC server takes them: a file for each class."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from singleshot.core.files import write_atomically
from singleshot.errors import ConfigError
from singleshot.prediction.frames import Prediction
from singleshot.prediction.output_names import folder_names, safe_name
from singleshot.prediction.sinks import SINKS, Run
from singleshot.prediction.sinks.base import FolderSink, encoded, path_of

_YEAR = re.compile(r"^\d{4}_")


class VocResultsSink(FolderSink):
    """``comp4_det_<split>_<class>.txt``: image, score, xmin, ymin, xmax, ymax, in VOC's pixels, which begin at 1.

    ``comp4`` is VOC's name of detection with any other training data. A class that nothing was found of has an empty
    file. The inverse of how VOC is read: x1 + 1, y1 + 1, x2, y2.
    """

    top = "voc-results"
    needs_pixels: ClassVar[bool] = False

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._paths: dict[str, Path] = {}
        parts = dict.fromkeys(_YEAR.sub("", part) for part in run.split.split("+"))
        split = safe_name("+".join(parts)) if run.split else "test"
        names = zip(run.class_names, folder_names(run.class_names), strict=True)
        self._files = {name: self._top / f"comp4_det_{split}_{safe}.txt" for name, safe in names}

    def __enter__(self) -> Self:
        super().__enter__()
        done = self._run.folder.journal.done_in(self.top)
        ids = {encoded(self._image_id(Path(image))) for image, error in done.items() if not error}
        for file in self._files.values():
            path = self._run.folder.claim(file)
            write_atomically(path, _rows_of(path, ids))  # in place of a link, too: what it leads to is not ours
        return self

    def write(self, prediction: Prediction) -> None:
        """Add the objects of one image to the files of their classes.

        Raises:
            ConfigError: the image's name has a space, which ends the name in these files.
        """
        image = self._image_id(path_of(prediction))
        if re.search(r"\s", image):
            raise ConfigError(f"'{image}' has a space, which the form of VOC's results cannot hold: rename the image")
        lines: dict[str, list[str]] = {}
        for (x1, y1, x2, y2), score, _, name in prediction.detections:
            shortest = np.format_float_positional(np.float32(score), trim="0")  # reads back as the same number
            row = f"{image} {shortest} {x1 + 1:.3f} {y1 + 1:.3f} {x2:.3f} {y2:.3f}\n"
            lines.setdefault(name, []).append(row)
        for name, rows in lines.items():
            _append(self._run.folder.path / self._files[name], encoded("".join(rows)))

    def _image_id(self, path: Path) -> str:
        """The file's name, as in VOC's lists; of a second image that is called so, its path below the common folder."""
        if self._paths.setdefault(path.stem, path) == path:
            return path.stem
        return self._run.names.relative(path).with_suffix("").as_posix()


def _rows_of(path: Path, ids: Collection[bytes]) -> bytes:
    """The whole rows of these images that a file holds: those of a run that was killed may be of one more."""
    rows = path.read_bytes().splitlines(keepends=True) if ids and path.is_file() else []
    return b"".join(row for row in rows if row.endswith(b"\n") and row.split(b" ")[0] in ids)


def _append(path: Path, data: bytes) -> None:
    """Add whole rows, or none."""
    with path.open("ab", buffering=0) as file:
        before, rest = file.tell(), memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:
            os.ftruncate(file.fileno(), before)
            raise


SINKS.register("voc-results")(VocResultsSink)
