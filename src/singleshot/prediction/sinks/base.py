"""What sinks have in common: files of their own for every image, or one file that is valid after each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import ConfigError
from singleshot.images.draw import draw_detections
from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.sinks import Run
from singleshot.version import __version__


def path_of(prediction: Prediction) -> Path:
    """What an image's results are filed under.

    Raises:
        ConfigError: it has no name.
    """
    if not prediction.frame.name:
        raise ConfigError("results of arrays have no file name to be saved under: use the detections' own methods")
    return Path(prediction.frame.name)


def drawn(prediction: Prediction, run: Run) -> NDArray[np.uint8]:
    """The picture of a frame with its boxes, zones and lines, ``[H, W, 3]`` uint8."""
    return draw_detections(
        prediction.frame.pixels,
        prediction.detections,
        labels=run.labels,
        line_width=run.line_width,
        guides=prediction.guides,
    )


class FolderSink:
    """Writes files of their own for every image; nothing is open between images."""

    resumes: ClassVar[bool] = True

    top: ClassVar[str]
    """Name of the folder."""

    def __init__(self, run: Run) -> None:
        self._top = Path(self.top)
        self._run = run

    def __enter__(self) -> Self:
        (self._run.folder.path / self._top).mkdir(exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def fail(self, failure: Failure) -> None:
        """A file that cannot be read has no picture."""


class FileSink:
    """One file for the whole run that is valid after every write: its end is always there, and written over.

    What UTF-8 cannot hold (file names of another encoding) is written as ``\\udc..`` escapes, which JSON reads back.
    """

    resumes: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = False
    top: ClassVar[str]
    """Name of the file."""

    def __init__(self, run: Run) -> None:
        self._name = Path(self.top)
        self._run = run
        self._seen = 0
        self._begin_at = self._at = 0
        self._tail = encoded(self._end(complete=False))
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        path = self._run.folder.claim(self._name)
        journal = self._run.folder.journal
        if self.top in journal.places:
            self._begin_at, self._at = len(encoded(self._begin())), journal.places[self.top]
            self._seen = len(journal.done_in(self.top))
            self._file = path.open("r+b", buffering=0)
            self._write(self._tail)
            return self
        path.unlink(missing_ok=True)  # a link, too: what it leads to is not ours
        self._file = path.open("xb", buffering=0)
        try:
            self._append(self._begin())
        except BaseException:
            self._file.close()
            raise
        self._begin_at = self._at
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            run = self._run
            whole = run.whole() if run.images is None else self._seen == run.images
            self._put(encoded(self._end(complete=whole and kind is None)))

    @property
    def length(self) -> int:
        """Bytes of the file without its end: where the next image goes."""
        return self._at

    def write(self, prediction: Prediction) -> None:
        """Add one image."""
        self._append(self._text(prediction))
        self._seen += 1

    def fail(self, failure: Failure) -> None:
        """Most tables have no place for failures."""
        self._seen += 1

    def _begin(self) -> str:
        """What comes before the first result."""
        return ""

    def _text(self, prediction: Prediction) -> str:
        """What is written of an image."""
        raise NotImplementedError

    def _end(self, *, complete: bool) -> str:
        """What comes after the last result."""
        return ""

    def _listed(self, rows: Sequence[str]) -> str:
        """Rows of a JSON list, a line each."""
        lead = ",\n" if self._at > self._begin_at else "\n"
        return lead + ",\n".join(rows) if rows else ""

    def _append(self, text: str) -> None:
        data = encoded(text)
        self._put(data + self._tail)
        self._at += len(data)

    def _put(self, data: bytes) -> None:
        """Write it all behind the results, or leave them with the usual end, which needs no further room."""
        try:
            self._write(data)
        except BaseException as error:
            self._write(self._tail)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(self._run.folder.path / self._name)) from error
            raise

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        self._file.seek(self._at)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._file.truncate()


def record_of(prediction: Prediction) -> dict[str, Any]:
    """What JSON says of one image; a frame of a video also has its name, number and time."""
    frame, record = prediction.frame, prediction.detections.to_dict(vocabulary=False)
    if frame.time_s is not None:
        record |= {"name": frame.name, "frame": frame.index, "time_s": round(frame.time_s, 6)}
    return record


def run_head(run: Run) -> dict[str, Any]:
    """What JSON says of the whole run."""
    return {"singleshot": __version__, "class_names": run.class_names, "category_ids": run.category_ids}


def failure_record(failure: Failure) -> dict[str, str]:
    """What JSON says of an image that could not be read."""
    return {"path": str(failure.path), "error": str(failure.error)}


def to_json(value: object) -> str:
    """JSON text on one line."""
    return json.dumps(value, ensure_ascii=False)


def encoded(text: str) -> bytes:
    """UTF-8; what it cannot hold becomes an escape."""
    return text.encode("utf-8", "backslashreplace")
