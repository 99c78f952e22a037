"""What a reader hands over: labels as the files say them, in columns, before anything is judged."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from singleshot.data.bad_records import Action, Problem
from singleshot.data.column_types import BoxColumn, PathColumn, TextColumn, added, raw_bytes, taken
from singleshot.data.headers import MAX_SIDE, ImageSizes, upright_sizes
from singleshot.data.notation import Form

OBJECT_COLUMNS = ("boxes", "labels", "difficult", "iscrowd", "areas", "lines", "keys")


class ImageRecord(NamedTuple):
    """An image that an annotation file names.

    Attributes:
        path: where the image should be.
        image_id: COCO's id, else the file's stem.
        file: the file that names the image.
        line: line in ``file``, where there is one.
        declared_hw: (height, width) that the annotation states; ``None`` where it states none.
        objects_file: the file of its objects, if another.
        labelled: whether some file speaks of its objects; without one it is taken for background.
    """

    path: Path
    image_id: int | str
    file: Path
    line: int | None = None
    declared_hw: tuple[int, int] | None = None
    objects_file: Path | None = None
    labelled: bool = True


class ImageTable(Sequence[ImageRecord]):
    """Images as columns; an `ImageRecord` is made when it is asked for.

    Attributes:
        paths: of the images.
        lines: as in `ImageRecord`, 0 where there is none.
        labelled: as in `ImageRecord`.
    """

    def __init__(self, images: Iterable[ImageRecord] = ()) -> None:
        self.paths = PathColumn()
        self.lines = array("q")
        self.labelled = array("b")
        self._ids, self._texts = array("q"), TextColumn()
        self._is_text = array("b")
        self._heights, self._widths = array("i"), array("i")
        self._files, self._last = PathColumn(), Path()
        self._file, self._objects = array("q"), array("q")
        self._made: tuple[int, Path] = (-1, Path())
        self.extend(images)

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, row: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, row: slice) -> list[ImageRecord]: ...
    def __getitem__(self, row: int | slice) -> ImageRecord | list[ImageRecord]:
        if isinstance(row, slice):
            return [self[index] for index in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        size = (self._heights[row], self._widths[row]) if self._heights[row] else None
        objects = None if self._objects[row] < 0 else self._path(self._objects[row])
        file, line = self._path(self._file[row]), self.lines[row] or None
        return ImageRecord(
            Path(self.paths[row]), self.image_id(row), file, line, size, objects, bool(self.labelled[row])
        )

    def append(self, image: ImageRecord) -> None:
        """Add an image."""
        self.add(str(image.path), *image[1:])

    def add(
        self,
        path: str,
        image_id: int | str,
        file: Path,
        line: int | None = None,
        declared_hw: tuple[int, int] | None = None,
        objects_file: Path | None = None,
        labelled: bool = True,
    ) -> None:
        """Add an image by the fields of an `ImageRecord`."""
        self.paths.append(path)
        is_text = not isinstance(image_id, int) or not -(2**63) <= image_id < 2**63
        self._ids.append(len(self._texts) if is_text else int(image_id))
        self._is_text.append(is_text)
        if is_text:
            self._texts.append(str(image_id))
        height, width = declared_hw or (0, 0)
        self._heights.append(height)
        self._widths.append(width)
        self._file.append(self._number(file))
        self._objects.append(-1 if objects_file is None else self._number(objects_file))
        self.lines.append(line or 0)
        self.labelled.append(labelled)

    def extend(self, images: Iterable[ImageRecord]) -> None:
        """Add images."""
        for image in images:
            self.append(image)

    def pop(self) -> None:
        """Take the last image away; its label files stay known, which nothing sees."""
        self.paths.pop()
        if self._is_text[-1]:
            self._texts.pop()
        columns = (self._ids, self._is_text, self._heights, self._widths, self._file, self._objects)
        for column in (*columns, self.lines, self.labelled):
            column.pop()

    def take(self, rows: Iterable[int]) -> ImageTable:
        """The images of some rows, in their order."""
        return ImageTable(map(self.__getitem__, rows))

    def image_id(self, row: int) -> int | str:
        """`ImageRecord.image_id` of a row."""
        return self._texts[self._ids[row]] if self._is_text[row] else self._ids[row]

    @property
    def number_ids(self) -> NDArray[np.int64] | None:
        """The images' ids, ``[N]``, where all are numbers."""
        return None if any(self._is_text) else np.array(self._ids)

    @property
    def declared_hw(self) -> NDArray[np.int64]:
        """Stated (height, width) of each image, ``[N, 2]``; 0 where none is."""
        return np.stack([np.array(self._heights, np.int64), np.array(self._widths, np.int64)], axis=1)

    @property
    def file_numbers(self) -> NDArray[np.int64]:
        """A number for the file of each image, ``[N]``, the same for the same file."""
        numbers: NDArray[np.int64] = np.unique(self._files.keys(), return_inverse=True)[1][np.array(self._file)]
        return numbers

    def where(self, row: int) -> str:
        """``file:line`` of a row, or ``file`` alone."""
        file = self._files[self._file[row]]
        return f"{file}:{self.lines[row]}" if self.lines[row] else file

    def _number(self, file: Path) -> int:
        """Position of a label file in the column of these; images of one file mostly follow each other."""
        if not (len(self._files) and (file is self._last or file == self._last)):
            self._files.append(str(file))
            self._last = file
        return len(self._files) - 1

    def _path(self, number: int) -> Path:
        if self._made[0] != number:
            self._made = (number, Path(self._files[number]))
        return self._made[1]


@dataclass(slots=True)
class Records:
    """Images, and their objects in columns of equal length; nothing is checked yet.

    Attributes:
        images: the images in the order of the data set.
        owner: position in ``images`` of each object's image.
        boxes: corners (x0, y0, x1, y1) as written, in the unit that ``one_based`` and ``fractions`` say.
        labels: class name (VOC, csv) or the file's own class id (COCO, YOLO).
        difficult, iscrowd: flags.
        areas: the annotation's area in square pixels, NaN where it states none.
        lines: line of each object in its image's annotation file, 0 where unknown.
        keys: COCO's annotation ids, ``None`` elsewhere; a file may be one long line.
        class_names: names of all classes in their order, of the whole data set (every split).
        class_ids: the files' own ids of ``class_names``; what ``labels`` holds unless it holds names.
        unnamed: nothing names the classes, so that ``class_names`` are made of their numbers.
        one_based: boxes are VOC's inclusive pixel numbers that begin at 1.
        fractions: boxes are fractions of the image's width and height (YOLO).
        forms: what the files state, from which ``boxes`` are computed; several where each image may have another.
        states_sizes: the format states the images' sizes, so that a missing one is worth a note.
        unlabelled: images that a list names, without a label file, where the format wants one of each; they may be
            missing themselves.
        problems: what the reader itself found.
        said: kinds of notes that are made once for a data set.
        known_sizes: the images' sizes, where the reader has them from a better place than the images, which are then
            not looked at.
    """

    images: ImageTable = field(default_factory=ImageTable)
    owner: array[int] = field(default_factory=partial(array, "q"))
    boxes: BoxColumn = field(default_factory=BoxColumn)
    labels: MutableSequence[Any] = field(default_factory=list)
    difficult: array[int] = field(default_factory=partial(array, "b"))
    iscrowd: array[int] = field(default_factory=partial(array, "b"))
    areas: array[float] = field(default_factory=lambda: array("d"))
    lines: array[int] = field(default_factory=partial(array, "q"))
    keys: MutableSequence[Any] = field(default_factory=list)
    class_names: tuple[str, ...] = ()
    class_ids: tuple[int, ...] = ()
    unnamed: bool = False
    one_based: bool = False
    fractions: bool = False
    forms: tuple[Form, ...] = ("corners",)
    states_sizes: bool = True
    unlabelled: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    said: set[str] = field(default_factory=set)
    known_sizes: ImageSizes | None = None

    def add_object(
        self,
        box: tuple[float, float, float, float],
        label: str | int,
        line: int,
        *,
        difficult: bool = False,
        iscrowd: bool = False,
        area: float = float("nan"),
        owner: int | None = None,
        key: object = None,
    ) -> None:
        """Append an object of the last image, or of image ``owner``."""
        self.owner.append(len(self.images) - 1 if owner is None else owner)
        self.boxes.append(box)
        self.labels.append(label)
        self.difficult.append(difficult)
        self.iscrowd.append(iscrowd)
        self.areas.append(area)
        self.lines.append(line)
        self.keys.append(key)

    def extend(self, other: Records) -> None:
        """Append the images, objects and problems of ``other``."""
        self.add_objects(
            np.array(other.owner) + len(self.images), **{name: getattr(other, name) for name in OBJECT_COLUMNS}
        )
        for name in ("images", "unlabelled", "problems"):
            getattr(self, name).extend(getattr(other, name))

    def add_objects(self, owner: NDArray[np.int64], **columns: Any) -> None:
        """Append many objects at once.

        Args:
            owner: position in ``images`` of each, ``[N]``.
            columns: all of `OBJECT_COLUMNS`, as arrays or as columns of other records.
        """
        self.owner.frombytes(raw_bytes(owner.astype(np.int64, copy=False)))
        for name in OBJECT_COLUMNS:
            setattr(self, name, added(getattr(self, name), columns[name]))

    def subset(self, indices: Sequence[int]) -> Records:
        """The images at ``indices``, in their order, with their objects; everything else as it is."""
        places = np.full(len(self.images), -1, np.int64)
        places[np.asarray(indices, np.int64)] = np.arange(len(indices))
        owner = places[np.array(self.owner)]
        rows = np.flatnonzero(owner >= 0)
        columns: dict[str, Any] = {name: taken(getattr(self, name), rows) for name in OBJECT_COLUMNS}
        if self.known_sizes is not None:
            columns["known_sizes"] = upright_sizes(self.known_sizes.upright_hw[np.asarray(indices, np.int64)])
        return replace(self, images=self.images.take(indices), owner=array("q", owner[rows].tobytes()), **columns)

    def note_once(self, path: Path, line: int | None, kind: str, message: str) -> None:
        """Note how all records of a kind are read, at the first of them."""
        if kind not in self.said:
            self.said.add(kind)
            self.add_problem(path, line, kind, message, "noted")

    def add_problem(self, file: Path, line: int | None, kind: str, message: str, action: Action = "skipped") -> None:
        """Append a problem."""
        self.problems.append(Problem(file, line or None, kind, action, message))


class Layout(Protocol):
    """A data set on disk that a reader has recognised.

    Attributes:
        splits: names of its splits; empty when everything is in one heap.
    """

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""

    def read(self, split: str | None) -> Records:
        """The records of one split, or of the whole data set.

        Raises:
            DataError: a file that everything depends on is missing or damaged.
        """


def declared_size(height: object, width: object) -> tuple[int, int] | None:
    """(height, width) as an annotation states it; ``None`` where these are no sizes."""
    known = all(isinstance(side, int | float) and 1 <= side <= MAX_SIDE for side in (height, width))
    return (int(height), int(width)) if known else None  # type: ignore[call-overload]
