"""What is leafed through: all images and objects in arrays, so that a filter over 100,000 images takes milliseconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from singleshot.data.bad_records import Problem
from singleshot.data.check import MEDIUM_AREA, SMALL_AREA
from singleshot.data.dataset import DetectionDataset
from singleshot.data.decisions import ACTIONS, folder_of
from singleshot.data.opening import open_splits
from singleshot.data.splitting import PARTS, assign_splits
from singleshot.evaluation.metrics.tables import GroundTruth

Mask = NDArray[np.bool_]
SIZES = ("small", "medium", "large")
"""COCO's size classes, by the area of the box."""

State = Literal["any", "undecided", "decided", "drop", "keep", "relabel"]


@dataclass(frozen=True)
class Collection:
    """A data set as arrays.

    Attributes:
        dataset: the whole of it.
        names: path of each image below the data set's folder.
        truth: all objects; those of image ``i`` are rows ``starts[i]`` to ``starts[i + 1]``.
        starts: ``[I + 1]`` int64.
        sizes: index into `SIZES` of each object, ``[N]``.
        splits: names of the splits, or of the parts into which training divides a data set without.
        in_split: which images are in which, ``[S, I]`` bool.
        kinds: of the problems that name an image.
        has_kind: which images have which, ``[K, I]`` bool.
        problems: those of each image that has some.
        elsewhere: problems of no image that is shown.
    """

    dataset: DetectionDataset
    names: tuple[str, ...]
    truth: GroundTruth
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    splits: tuple[str, ...]
    in_split: Mask
    kinds: tuple[str, ...]
    has_kind: Mask
    problems: dict[int, list[Problem]]
    elsewhere: tuple[Problem, ...]

    def __len__(self) -> int:
        return len(self.names)

    def objects(self, image: int) -> slice:
        """Rows of the objects of an image."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))


@dataclass(frozen=True)
class ImageFilter:
    """Which images to show; what is left as it is asks for nothing.

    Attributes:
        class_id: with an object of this class; -1: without any object.
        size: with an object (of that class) of this size: a position in `SIZES`.
        split: a position in ``Collection.splits``.
        kind: with a problem of this kind: a position in ``Collection.kinds``; -1: with any problem.
        state: with a decision of this sort; ``undecided``: without any.
        text: part of the name, in any capitals.
    """

    class_id: int | None = None
    size: int | None = None
    split: int | None = None
    kind: int | None = None
    state: State = "any"
    text: str = ""


def open_collection(path: str | Path, format: str = "auto", classes: Sequence[str] | None = None) -> Collection:
    """Open a data set, whatever its format, to be leafed through.

    Raises:
        DataError: as `singleshot.data.open`.
    """
    whole, parts = open_splits(path, format, "skip", classes)
    return collect(whole, parts)


def collect(whole: DetectionDataset, parts: dict[str, DetectionDataset]) -> Collection:
    """The arrays of a data set and its splits."""
    paths = [sample.image_path for sample in whole.samples]
    root = folder_of(whole.path)
    truth = GroundTruth.from_samples(whole.samples)
    sides = truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2]
    place = {path: index for index, path in enumerate(paths)}
    problems, elsewhere = _by_image(whole, parts, place)
    kinds = tuple(sorted({problem.kind for mine in problems.values() for problem in mine}))
    has_kind = np.zeros((len(kinds), len(paths)), dtype=bool)
    for image, mine in problems.items():
        has_kind[[kinds.index(problem.kind) for problem in mine], image] = True
    splits, in_split = _membership(parts, place)
    return Collection(
        whole,
        tuple(_below(path, root) for path in paths),
        truth,
        np.searchsorted(truth.image_index, np.arange(len(paths) + 1)),
        np.digitize(sides.prod(axis=1), (SMALL_AREA, MEDIUM_AREA)),
        splits,
        in_split,
        kinds,
        has_kind,
        problems,
        elsewhere,
    )


def chosen(
    collection: Collection, wanted: ImageFilter, decided: NDArray[np.int8], object_state: NDArray[np.int8]
) -> Mask:
    """The images that a filter lets through, ``[I]`` bool.

    Args:
        collection: the images.
        wanted: the filter.
        decided: per image: 0 nothing, else 1 + the position of the image's own action in `ACTIONS`, ``[I]``.
        object_state: the same per object, ``[N]``.
    """
    images = len(collection)
    keep = np.ones(images, dtype=bool)
    owner = collection.truth.image_index
    if wanted.class_id == -1:
        keep &= np.diff(collection.starts) == 0
    elif wanted.class_id is not None or wanted.size is not None:
        rows = np.ones(len(owner), dtype=bool)
        if wanted.class_id is not None:
            rows &= collection.truth.class_ids == wanted.class_id
        if wanted.size is not None:
            rows &= collection.sizes == wanted.size
        keep &= np.bincount(owner[rows], minlength=images) > 0
    if wanted.split is not None:
        keep &= collection.in_split[wanted.split]
    if wanted.kind is not None:
        keep &= collection.has_kind.any(axis=0) if wanted.kind == -1 else collection.has_kind[wanted.kind]
    if wanted.state in ACTIONS:
        code = 1 + ACTIONS.index(wanted.state)
        keep &= (decided == code) | (np.bincount(owner[object_state == code], minlength=images) > 0)
    elif wanted.state != "any":
        some = (decided > 0) | (np.bincount(owner[object_state > 0], minlength=images) > 0)
        keep &= some if wanted.state == "decided" else ~some
    if wanted.text:
        text = wanted.text.casefold()
        keep &= np.fromiter((text in name.casefold() for name in collection.names), dtype=bool, count=images)
    return keep


def _below(path: Path, root: Path) -> str:
    """The path below a folder; of 100,000 images ``relpath`` alone would take seconds."""
    text, start = str(path), f"{root}{os.sep}"
    return text[len(start) :] if text.startswith(start) else os.path.relpath(text, root)


def _by_image(
    whole: DetectionDataset, parts: dict[str, DetectionDataset], place: dict[Path, int]
) -> tuple[dict[int, list[Problem]], tuple[Problem, ...]]:
    """Problems by image: the one that they name, that is their file, or that their file alone is called after."""
    stems: dict[str, int | None] = {}
    for path, index in place.items():
        stems[path.stem] = None if path.stem in stems else index
    found: dict[int, list[Problem]] = {}
    elsewhere = []
    for problem in dict.fromkeys(p for part in (whole, *parts.values()) for p in part.problems):
        image = place.get(problem.image or problem.file, stems.get(problem.file.stem))
        if image is None:
            elsewhere.append(problem)
        else:
            found.setdefault(image, []).append(problem)
    return found, tuple(elsewhere)


def _membership(parts: dict[str, DetectionDataset], place: dict[Path, int]) -> tuple[tuple[str, ...], Mask]:
    if parts:
        mask = np.zeros((len(parts), len(place)), dtype=bool)
        for row, part in enumerate(parts.values()):
            mask[row, [place[s.image_path] for s in part.samples if s.image_path in place]] = True
        return tuple(parts), mask
    places = assign_splits([str(path) for path in place])
    used = tuple(name for name in PARTS if name in places)
    return used, np.array([[at == name for at in places] for name in used], dtype=bool).reshape(len(used), len(place))
