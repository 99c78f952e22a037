"""What a reader hands over: labels as the files say them, in columns, before anything is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from singleshot.data.bad_records import Action, Problem
from singleshot.images.read import IMAGE_SUFFIXES

MAX_SIDE = 2**24
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
        widths: the files state x, y, width and height (COCO), from which ``boxes`` are computed.
        states_sizes: the format states the images' sizes, so that a missing one is worth a note.
        unlabelled: images that a list names, without a label file, where the format wants one of each; they may be
            missing themselves.
        problems: what the reader itself found.
    """

    images: list[ImageRecord] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[str] | list[int] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    iscrowd: list[bool] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    keys: list[object] = field(default_factory=list)
    class_names: tuple[str, ...] = ()
    class_ids: tuple[int, ...] = ()
    unnamed: bool = False
    one_based: bool = False
    fractions: bool = False
    widths: bool = False
    states_sizes: bool = True
    unlabelled: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

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
        self.labels.append(label)  # type: ignore[arg-type]
        self.difficult.append(difficult)
        self.iscrowd.append(iscrowd)
        self.areas.append(area)
        self.lines.append(line)
        self.keys.append(key)

    def extend(self, other: Records) -> None:
        """Append the images, objects and problems of ``other``."""
        self.owner += [owner + len(self.images) for owner in other.owner]
        for name in ("images", "unlabelled", "problems", *OBJECT_COLUMNS):
            getattr(self, name).extend(getattr(other, name))

    def subset(self, indices: Sequence[int]) -> Records:
        """The images at ``indices``, in their order, with their objects; everything else as it is."""
        places = {old: new for new, old in enumerate(indices)}
        rows = [row for row, owner in enumerate(self.owner) if owner in places]
        columns: dict[str, Any] = {name: [getattr(self, name)[row] for row in rows] for name in OBJECT_COLUMNS}
        owner = [places[self.owner[row]] for row in rows]
        return replace(self, images=[self.images[index] for index in indices], owner=owner, **columns)

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


class ImageFolder:
    """The image files of one folder by name and by stem; one listing instead of a question per file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, str] = {}
        self._stems: dict[str, str] = {}
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        for name in names:
            stem, dot, suffix = name.rpartition(".")
            if dot + suffix.lower() in IMAGE_SUFFIXES and stem:
                self._names[name] = name
                self._stems.setdefault(stem, name)

    def __len__(self) -> int:
        return len(self._names)

    def paths(self) -> list[Path]:
        """The images, sorted by name."""
        return [self.folder / name for name in self._names]

    def stems(self) -> list[tuple[str, Path]]:
        """(stem, path), one path for each stem, sorted."""
        return [(stem, self.folder / name) for stem, name in self._stems.items()]

    def find(self, stem: str, name: str = "") -> Path | None:
        """The image called ``stem``, with the suffix of ``name`` if there are several; else the one called ``name``."""
        preferred = stem + Path(name).suffix
        found = self._names.get(preferred) or self._stems.get(stem) or self._names.get(name)
        return self.folder / found if found else None
