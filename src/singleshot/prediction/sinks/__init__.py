"""Where results go: pictures, JSON, CSV, text, COCO's and VOC's results, crops. Each sink is a context manager.

A sink is one file and one registered object, here or in another package (entry points of ``singleshot.sinks``).
Numbers are kept as they come: each of their files is whole and valid after every image, so that an interrupted run, or
a full disk, loses none that was written. A sink that cannot write an image raises; what it wrote before stays good.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from singleshot.core.registry import Registry
from singleshot.errors import ConfigError
from singleshot.images.read import write_image
from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.output_folder import Journal, ResultFolder, check_folder, check_not_sources
from singleshot.prediction.output_names import OutputNames

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


class SinkKind(Protocol):
    """What `SINKS` holds: the class of a sink that writes below a folder, or a function that makes one."""

    @property
    def top(self) -> str:
        """The file or folder that it writes, below the run's folder: ``detections.csv``, ``crops``."""

    def __call__(self, run: Run, /) -> Sink:
        """A sink for a run, which is opened by ``with``."""


_OURS = (
    *("json", "jsonl", "csv", "text", "coco", "voc-results", "images", "crops"),
    *("video", "mot", "parquet", "crossings"),
)

SINKS: Registry[SinkKind] = Registry(
    "sink",
    {name: f"{__name__}.{name.replace('-', '_')}" for name in _OURS}
    | dict.fromkeys(("yolo", "voc"), f"{__name__}.labels"),
)
"""By the names that ``save`` knows. Files are written before folders, so that no picture is without its numbers."""


class TrueObject(NamedTuple):
    """An object that a person labelled.

    Attributes:
        name: its class.
        box_xyxy: in pixels of the image.
    """

    name: str
    box_xyxy: tuple[float, float, float, float]


Truth = Mapping[Path, Sequence[TrueObject]]
"""The labelled objects of images, by the images' paths."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the sinks of a run share.

    Attributes:
        folder: where they write.
        names: of the pictures.
        images: how many there will be; ``None`` where that is not known, as of videos.
        class_names, category_ids: what class ids mean.
        labels: whether boxes have names.
        line_width: of boxes, in pixels; ``None`` follows the picture's size.
        note: is told what is done otherwise than asked.
        split: of a data set, that the images are; empty where they are none.
        truth: the labelled objects, where the images are a data set's.
        timed: whether there are frames of videos among the images.
        tracked: whether objects have track ids.
        whole: asked at the end of a run of unknown length: whether it came to its end.
    """

    folder: ResultFolder
    names: OutputNames
    images: int | None
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    labels: bool = True
    line_width: int | None = None
    note: Note = warnings.warn
    split: str = ""
    truth: Truth | None = None
    timed: bool = False
    tracked: bool = False
    whole: Callable[[], bool] = lambda: True

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
    split: str = "",
    truth: Truth | None = None,
    timed: bool = False,
    tracked: bool = False,
    whole: Callable[[], bool] = lambda: True,
    resume: bool = False,
    how: Mapping[str, Any] | None = None,
) -> Iterator[list[Sink]]:
    """Open sinks together.

    Args:
        kinds: names in `SINKS`.
        folder: where to write.
        images: all images of the run, for names that do not collide.
        class_names, category_ids: what class ids mean.
        overwrite: whether files that are there may be replaced; those that an earlier run recorded are removed first.
        labels, line_width: how boxes are drawn.
        note: is told what is done otherwise than asked.
        split, truth: of a data set.
        timed, tracked, whole: as in `Run`; of timed runs the number of images is not known.
        resume, how: as in `ResultFolder`.

    Raises:
        ConfigError: an unknown kind.
        OutputError: something is there that may not be replaced.
    """
    check_sinks(kinds, folder, images, overwrite, resume)
    with ExitStack() as stack:
        if not kinds:
            yield []
            return
        made = stack.enter_context(ResultFolder(folder, images, overwrite, resume=resume, how=how))
        run = Run(
            made,
            OutputNames(images),
            None if timed else len(images),
            tuple(class_names),
            tuple(category_ids),
            labels,
            line_width,
            note,
            split,
            truth,
            timed,
            tracked,
            whole,
        )
        makers = [SINKS.get(kind) for kind in dict.fromkeys(kinds)]
        makers.sort(key=lambda make: not Path(make.top).suffix)  # files of numbers before folders of pictures
        opened = [stack.enter_context(make(run)) for make in makers]
        if timed:
            yield opened
            return
        noted = [_Noted(sink, make.top, made.journal) for sink, make in zip(opened, makers, strict=True)]
        yield [*noted, _Bookkeeper(made, noted)]


class _Noted:
    """A sink of a run that can be continued: it knows what it missed, and of former runs' images writes only that.

    Args:
        sink: opened.
        top: the file or folder that it writes.
        journal: of the former run.
    """

    def __init__(self, sink: Sink, top: str, journal: Journal) -> None:
        self.sink, self.top = sink, top
        self.missed = False
        self._missing = journal.missing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, prediction: Prediction) -> None:
        if self._wants(prediction.frame.name):
            self.sink.write(prediction)
        self.missed = False

    def fail(self, failure: Failure) -> None:
        if self._wants(str(failure.path)):
            self.sink.fail(failure)
        self.missed = False

    def _wants(self, image: str) -> bool:
        """Whether an image is to be written here; it counts as missed until it is."""
        self.missed = True
        return image not in self._missing or self.top in self._missing[image]


class _Bookkeeper:
    """The last sink: notes that an image is done, once all others had it, and which of them could not write it."""

    def __init__(self, folder: ResultFolder, sinks: Sequence[_Noted]) -> None:
        self._folder = folder
        self._sinks = sinks
        self._files = {noted.top: sink for noted in sinks if hasattr(sink := cast(Any, noted.sink), "length")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, prediction: Prediction) -> None:
        self._note(prediction.frame.name)

    def fail(self, failure: Failure) -> None:
        self._note(str(failure.path), str(failure.error))

    def _note(self, image: str, error: str = "") -> None:
        places = {top: sink.length for top, sink in self._files.items()}
        self._folder.note_done(image, places, error, [sink.top for sink in self._sinks if sink.missed])


def check_sinks(
    kinds: Sequence[str], folder: Path, images: Sequence[Path], overwrite: bool = False, resume: bool = False
) -> None:
    """Refuse, before any work, what `open_sinks` would refuse.

    Raises:
        ConfigError: an unknown kind, or with ``resume`` one that cannot be continued.
        OutputError: something is there that may not be replaced.
    """
    check_kinds(kinds)
    if not kinds:
        return
    if resume:
        for kind in kinds:
            if not getattr(SINKS.get(kind), "resumes", False):
                raise ConfigError(f"`save='{kind}'` cannot be continued: leave it out of the runs that may be")
        return
    check_folder(folder, [SINKS.get(kind).top for kind in kinds], images, overwrite)
    if overwrite and "images" in kinds and folder.is_dir():
        names = OutputNames(images)
        check_not_sources([folder / SINKS.get("images").top / names.picture(image) for image in images], images)


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise a `ConfigError` for a kind that is not in `SINKS`."""
    for kind in kinds:
        if kind not in SINKS:
            raise ConfigError(f"`save='{kind}'`: unknown; choose from {', '.join(SINKS)}")
