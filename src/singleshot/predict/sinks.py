"""Where results go: pictures, JSON, CSV, COCO results, crops. Each sink is a context manager with ``write``.

Files appear when the sink closes without an error, whole; an interrupted run leaves those of the last good run.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from singleshot.detections import CSV_COLUMNS, Detections
from singleshot.draw import draw_detections
from singleshot.errors import ConfigError
from singleshot.images import write_image
from singleshot.predict.runner import Failure, Prediction
from singleshot.version import __version__


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


class OutputNames:
    """Output names that differ wherever the inputs differ: the path below the inputs' common folder.

    Args:
        images: all inputs.
    """

    def __init__(self, images: Sequence[Path]) -> None:
        self._root = Path(os.path.commonpath([path.absolute().parent for path in images])) if images else Path.cwd()

    def relative(self, path: Path) -> Path:
        """Path below the common folder."""
        return Path(os.path.relpath(path.absolute(), self._root))

    def picture(self, path: Path) -> Path:
        """The same with a suffix that everyone can open; other formats keep theirs inside the name."""
        name = self.relative(path)
        return name if name.suffix.lower() in (".jpg", ".jpeg", ".png") else name.with_name(name.name + ".jpg")


def _path_of(prediction: Prediction) -> Path:
    path = prediction.detections.path
    if path is None:
        raise ConfigError("results of arrays have no file name to be saved under: use the detections' own methods")
    return path


class _FolderSink:
    """Writes files of their own for every image; nothing is open between images."""

    def __init__(self, folder: Path, names: OutputNames) -> None:
        self._folder = folder
        self._names = names

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
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
        path = _path_of(prediction)
        target = self._folder / self._names.picture(path)
        if target.exists() and target.samefile(path):
            raise ConfigError(f"{target}: would overwrite the photo itself: choose another --out")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image(target, draw_detections(prediction.image, prediction.detections))


class CropSink(_FolderSink):
    """Every object as a picture of its own, in a folder per class."""

    def write(self, prediction: Prediction) -> None:
        """Save the objects of one image; boxes without a whole pixel are left out."""
        height, width = prediction.image.shape[:2]
        place = self._names.relative(_path_of(prediction))
        stem = place.stem if place.suffix.lower() == ".jpg" else place.name  # 1.jpg and 1.png differ
        for number, (box, _, _, name) in enumerate(prediction.detections, start=1):
            x1, y1, x2, y2 = box.round().astype(int)
            crop = prediction.image[max(y1, 0) : min(y2, height), max(x1, 0) : min(x2, width)]
            if crop.size:
                folder = self._folder / _as_file_name(name) / place.parent
                folder.mkdir(parents=True, exist_ok=True)
                write_image(folder / f"{stem}_{number}.jpg", crop)


def _as_file_name(name: str) -> str:
    """A class name as a folder name: separators and leading dots would lead elsewhere."""
    return "".join("_" if character in '/\\:*?"<>|\0' else character for character in name).lstrip(".") or "_"


class _FileSink:
    """One file for the whole run, written as results come, renamed into place at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._file: IO[str]

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("w", encoding="utf-8", newline="")
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                if kind is None:
                    self._end()
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Write what comes before the first result."""

    def _end(self) -> None:
        """Write what comes after the last one."""

    def fail(self, failure: Failure) -> None:
        """Most tables have no place for failures."""


class CsvSink(_FileSink):
    """One row per object."""

    def _begin(self) -> None:
        self._rows = csv.writer(self._file)
        self._rows.writerow(CSV_COLUMNS)

    def write(self, prediction: Prediction) -> None:
        """Add the rows of one image."""
        self._rows.writerows(prediction.detections.to_rows())


class JsonSink(_FileSink):
    """One JSON document, one image per line: singleshot, class_names, images, failed.

    `read_json` gives the `Detections` back.
    """

    def __init__(self, path: Path, class_names: Sequence[str], category_ids: Sequence[int] = ()) -> None:
        super().__init__(path)
        self._head = {"class_names": list(class_names), "category_ids": list(category_ids)}
        self._failed: list[dict[str, str]] = []
        self._separator = "\n"

    def _begin(self) -> None:
        head = json.dumps({"singleshot": __version__, **self._head}, ensure_ascii=False)
        self._file.write(head[:-1] + ', "images": [')

    def write(self, prediction: Prediction) -> None:
        """Add one image."""
        record = json.dumps(prediction.detections.to_dict(vocabulary=False), ensure_ascii=False)
        self._file.write(self._separator + record)
        self._separator = ",\n"

    def fail(self, failure: Failure) -> None:
        """Remember a failed image for the end of the document."""
        self._failed.append({"path": str(failure.path), "error": str(failure.error)})

    def _end(self) -> None:
        self._file.write(f'\n], "failed": {json.dumps(self._failed, ensure_ascii=False)}}}\n')


class CocoSink(_FileSink):
    """A COCO results file, as ``pycocotools`` reads it.

    The image id is the number that the file's name is (COCO's own images), else the path below the common folder.
    """

    def __init__(self, path: Path, names: OutputNames) -> None:
        super().__init__(path)
        self._names = names
        self._ids: set[int] = set()
        self._separator = "\n"

    def _begin(self) -> None:
        self._file.write("[")

    def write(self, prediction: Prediction) -> None:
        """Add the rows of one image."""
        for row in prediction.detections.to_coco(self._image_id(_path_of(prediction))):
            self._file.write(self._separator + json.dumps(row, ensure_ascii=False))
            self._separator = ",\n"

    def _image_id(self, path: Path) -> int | str:
        number = int(path.stem) if path.stem.isdecimal() and path.stem.isascii() else None
        if number is None or number in self._ids:
            return self._names.relative(path).as_posix()
        self._ids.add(number)
        return number

    def _end(self) -> None:
        self._file.write("\n]\n")


SinkMaker = Callable[[Path, OutputNames, Sequence[str], Sequence[int]], Sink]

SINKS: dict[str, tuple[str, SinkMaker]] = {
    "images": ("images", lambda path, names, _classes, _ids: ImageSink(path, names)),
    "json": ("detections.json", lambda path, _names, classes, ids: JsonSink(path, classes, ids)),
    "csv": ("detections.csv", lambda path, _names, _classes, _ids: CsvSink(path)),
    "coco": ("coco.json", lambda path, names, _classes, _ids: CocoSink(path, names)),
    "crops": ("crops", lambda path, names, _classes, _ids: CropSink(path, names)),
}
"""Name that ``--save`` knows -> what it writes below the output folder, and its maker."""


@contextmanager
def open_sinks(
    kinds: Sequence[str], folder: Path, images: Sequence[Path], class_names: Sequence[str], category_ids: Sequence[int]
) -> Iterator[list[Sink]]:
    """Open sinks together; their files appear when the block ends well.

    Args:
        kinds: keys of `SINKS`.
        folder: where to write.
        images: all images of the run, for names that do not collide.
        class_names, category_ids: what class ids mean.

    Raises:
        ConfigError: an unknown kind.
    """
    from contextlib import ExitStack

    check_kinds(kinds)
    names = OutputNames(images)
    with ExitStack() as stack:
        makers = (SINKS[kind] for kind in dict.fromkeys(kinds))
        yield [stack.enter_context(make(folder / where, names, class_names, category_ids)) for where, make in makers]


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise a `ConfigError` for a kind that is not in `SINKS`."""
    for kind in kinds:
        if kind not in SINKS:
            raise ConfigError(f"--save {kind}: unknown; choose from {', '.join(SINKS)}")


def read_json(path: Path) -> list[Detections]:
    """Read a document that `JsonSink` wrote.

    Raises:
        ValueError: another document.
    """
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "images" not in document or "class_names" not in document:
        raise ValueError(f"{path}: not a detections file of singleshot")
    ids = {"category_ids": document.get("category_ids", ())}
    return [Detections.from_dict(record | ids, document["class_names"]) for record in document["images"]]
