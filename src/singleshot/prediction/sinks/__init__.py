"""Where results go: pictures, JSON, JSON Lines, CSV, COCO results, crops. Each sink is a context manager.

Numbers are kept as they come: each of their files is whole and valid after every image, so that an interrupted run, or
a full disk, loses none that was written. A sink that cannot write an image raises; what it wrote before stays good.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from singleshot.errors import ConfigError
from singleshot.images.draw import draw_detections
from singleshot.images.read import write_image
from singleshot.prediction.detections import CSV_COLUMNS, Detections
from singleshot.prediction.output_folder import ResultFolder, check_folder, check_not_sources
from singleshot.prediction.output_names import OutputNames, folder_names
from singleshot.prediction.pipeline import Failure, Prediction
from singleshot.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_JPEG_SIDE = 65_500
"""libjpeg writes no picture that is wider or higher."""

Note = Callable[[str], object]


class Sink(Protocol):
    """Takes results one by one."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, prediction: Prediction) -> None:
        """Take one image's detections."""

    def fail(self, failure: Failure) -> None:
        """Take note of an image that could not be read."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the sinks of a run share.

    Attributes:
        folder: where they write.
        names: of the pictures.
        images: how many there will be.
        class_names, category_ids: what class ids mean.
        labels: whether boxes have names.
        line_width: of boxes, in pixels; ``None`` follows the picture's size.
        note: is told what is done otherwise than asked.
    """

    folder: ResultFolder
    names: OutputNames
    images: int
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    labels: bool = True
    line_width: int | None = None
    note: Note = warnings.warn

    def write_picture(self, name: Callable[[str], Path], picture: NDArray[np.uint8]) -> None:
        """Write a picture below the folder, as PNG where JPEG cannot hold it.

        Args:
            name: its path, with a suffix added.
            picture: ``[H, W, 3]`` uint8.
        """
        place = name("")
        if max(picture.shape[:2]) > MAX_JPEG_SIDE and place.suffix.lower() in (".jpg", ".jpeg"):
            place = name(".png")
            height, width = picture.shape[:2]
            self.note(f"{self.folder.path / place}: is a PNG, since {width} x {height} pixels are too many for JPEG")
        write_image(self.folder.claim(place), picture)


def _path_of(prediction: Prediction) -> Path:
    path = prediction.detections.path
    if path is None:
        raise ConfigError("results of arrays have no file name to be saved under: use the detections' own methods")
    return path


class _FolderSink:
    """Writes files of their own for every image; nothing is open between images."""

    def __init__(self, top: str, run: Run) -> None:
        self._top = Path(top)
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


class ImageSink(_FolderSink):
    """Pictures with boxes."""

    def write(self, prediction: Prediction) -> None:
        """Draw and save one picture."""
        run = self._run
        path = _path_of(prediction)
        picture = draw_detections(prediction.image, prediction.detections, labels=run.labels, line_width=run.line_width)
        run.write_picture(lambda suffix: self._top / run.names.picture(path, suffix), picture)


class CropSink(_FolderSink):
    """Every object as a picture of its own, in a folder per class."""

    def __init__(self, top: str, run: Run) -> None:
        super().__init__(top, run)
        self._folders: Mapping[str, str] = dict(zip(run.class_names, folder_names(run.class_names), strict=True))

    def write(self, prediction: Prediction) -> None:
        """Save the objects of one image; boxes without a whole pixel are left out."""
        height, width = prediction.image.shape[:2]
        path = _path_of(prediction)
        for number, (box, _, _, name) in enumerate(prediction.detections, start=1):
            x1, y1, x2, y2 = box.round().astype(int)
            crop = prediction.image[max(y1, 0) : max(min(y2, height), 0), max(x1, 0) : max(min(x2, width), 0)]
            if crop.size:
                self._run.write_picture(partial(self._place, path, number, name), crop)

    def _place(self, path: Path, number: int, class_name: str, suffix: str) -> Path:
        return self._top / self._folders[class_name] / self._run.names.crop(path, number, suffix)


class _FileSink:
    """One file for the whole run that is valid after every write: its end is always there, and written over.

    What UTF-8 cannot hold (file names of another encoding) is written as ``\\udc..`` escapes, which JSON reads back.
    """

    def __init__(self, name: str, run: Run) -> None:
        self._name = Path(name)
        self._run = run
        self._seen = 0
        self._begin_at = self._at = 0
        self._tail = _encoded(self._end(complete=False))
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        path = self._run.folder.claim(self._name)
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
            self._put(_encoded(self._end(complete=self._seen == self._run.images and kind is None)))

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
        data = _encoded(text)
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


class CsvSink(_FileSink):
    """One row per object."""

    def _begin(self) -> str:
        return _csv_lines([CSV_COLUMNS])

    def _text(self, prediction: Prediction) -> str:
        return _csv_lines(prediction.detections.to_rows())


class JsonSink(_FileSink):
    """One JSON document, one image per line: singleshot, class_names, images, failed, complete.

    ``complete`` is false while the run goes on, and stays so when it is interrupted. `read_json` gives the `Detections`
    back.
    """

    def __init__(self, name: str, run: Run) -> None:
        self._failed: list[dict[str, str]] = []
        super().__init__(name, run)

    def _begin(self) -> str:
        return _to_json(_head(self._run))[:-1] + ', "images": ['

    def _text(self, prediction: Prediction) -> str:
        return self._listed([_to_json(prediction.detections.to_dict(vocabulary=False))])

    def fail(self, failure: Failure) -> None:
        """Remember a failed image for the end of the document."""
        super().fail(failure)
        self._failed.append(_failed(failure))

    def _end(self, *, complete: bool) -> str:
        return f'\n], "failed": {_to_json(self._failed)}, "complete": {_to_json(complete)}}}\n'


class JsonLinesSink(_FileSink):
    """JSON Lines: a line about the run, then one per image as in the JSON document; a failed one has an ``error``."""

    def _begin(self) -> str:
        return _to_json(_head(self._run)) + "\n"

    def _text(self, prediction: Prediction) -> str:
        return _to_json(prediction.detections.to_dict(vocabulary=False)) + "\n"

    def fail(self, failure: Failure) -> None:
        """Add the reason."""
        super().fail(failure)
        self._append(_to_json(_failed(failure)) + "\n")


class CocoSink(_FileSink):
    """A COCO results file, as ``pycocotools`` reads it.

    The image id is the number that the file's name is (COCO's own images), else the path below the common folder.
    """

    def __init__(self, name: str, run: Run) -> None:
        super().__init__(name, run)
        self._ids: set[int] = set()

    def _begin(self) -> str:
        return "["

    def _text(self, prediction: Prediction) -> str:
        rows = prediction.detections.to_coco(self._image_id(_path_of(prediction)))
        return self._listed([_to_json(row) for row in rows])

    def _image_id(self, path: Path) -> int | str:
        digits = path.stem if path.stem.isdecimal() and path.stem.isascii() and len(path.stem) <= 15 else ""
        if not digits or int(digits) in self._ids:
            return self._run.names.relative(path).as_posix()
        self._ids.add(int(digits))
        return int(digits)

    def _end(self, *, complete: bool) -> str:
        return "\n]\n"


def _head(run: Run) -> dict[str, Any]:
    return {"singleshot": __version__, "class_names": run.class_names, "category_ids": run.category_ids}


def _failed(failure: Failure) -> dict[str, str]:
    return {"path": str(failure.path), "error": str(failure.error)}


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _csv_lines(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


SINKS: dict[str, tuple[str, Callable[[str, Run], Sink]]] = {
    "json": ("detections.json", JsonSink),
    "jsonl": ("detections.jsonl", JsonLinesSink),
    "csv": ("detections.csv", CsvSink),
    "coco": ("coco.json", CocoSink),
    "images": ("images", ImageSink),
    "crops": ("crops", CropSink),
}
"""Name that ``--save`` knows -> what it writes below the output folder, and its maker. Numbers come before pictures, so
that no picture is without them."""


@contextmanager
def open_sinks(
    kinds: Sequence[str],
    folder: Path,
    images: Sequence[Path],
    class_names: Sequence[str],
    category_ids: Sequence[int],
    *,
    overwrite: bool = False,
    labels: bool = True,
    line_width: int | None = None,
    note: Note = warnings.warn,
) -> Iterator[list[Sink]]:
    """Open sinks together.

    Args:
        kinds: keys of `SINKS`.
        folder: where to write.
        images: all images of the run, for names that do not collide.
        class_names, category_ids: what class ids mean.
        overwrite: whether files that are there may be replaced; those that an earlier run recorded are removed first.
        labels, line_width: how boxes are drawn.
        note: is told what is done otherwise than asked.

    Raises:
        ConfigError: an unknown kind.
        OutputError: something is there that may not be replaced.
    """
    check_sinks(kinds, folder, images, overwrite)
    with ExitStack() as stack:
        if not kinds:
            yield []
            return
        made = stack.enter_context(ResultFolder(folder, images, overwrite))
        labels_of = (tuple(class_names), tuple(category_ids))
        run = Run(made, OutputNames(images), len(images), *labels_of, labels, line_width, note)
        yield [stack.enter_context(make(top, run)) for kind, (top, make) in SINKS.items() if kind in kinds]


def check_sinks(kinds: Sequence[str], folder: Path, images: Sequence[Path], overwrite: bool = False) -> None:
    """Refuse, before any work, what `open_sinks` would refuse.

    Raises:
        ConfigError: an unknown kind.
        OutputError: something is there that may not be replaced.
    """
    check_kinds(kinds)
    if not kinds:
        return
    check_folder(folder, [SINKS[kind][0] for kind in kinds], images, overwrite)
    if overwrite and "images" in kinds and folder.is_dir():
        names = OutputNames(images)
        check_not_sources([folder / SINKS["images"][0] / names.picture(image) for image in images], images)


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise a `ConfigError` for a kind that is not in `SINKS`."""
    for kind in kinds:
        if kind not in SINKS:
            raise ConfigError(f"--save {kind}: unknown; choose from {', '.join(SINKS)}")


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
