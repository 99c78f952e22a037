"""The annotations of a COCO file as objects, each checked for what it must say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.data.columns import Mask
from singleshot.data.formats.coco_columns import NO_ID, AnnotationRows, Ids, fits
from singleshot.data.formats.coco_json import is_missing
from singleshot.data.records import Records
from singleshot.data.values import NAN, as_flag, as_id, as_number, as_numeric_id, four_numbers, shown

MAX_AREA = 1e15
Box = tuple[float, float, float, float]


def add_objects(
    records: Records, file: Path, rows: AnnotationRows, positions: Mapping[int | str, int], known: Mapping[int, int]
) -> None:
    """Append the annotations of one file; what a record lacks is named with its line.

    Args:
        records: get the objects, and what is wrong.
        file: the file.
        rows: its annotations.
        positions: image id -> position.
        known: category id -> id of the class.
    """
    images = _ImageIds(positions)
    objects = _Objects(records, file, rows, images.find_all(rows), known)
    repeated = objects.repeated()
    unusual = repeated | (objects.owner < 0) | (objects.labels < 0)
    unusual[list(rows.odd)] = True
    for row in np.flatnonzero(unusual).tolist():
        objects.judge(row, repeated=bool(repeated[row]))
    kept = np.flatnonzero(objects.keep)
    objects.hand_over(kept)
    _note_guesses(records, file, images, objects.texts, objects.polygons)
    if len(kept) and objects.crowds[kept].all():
        message = f"all {len(kept)} objects are crowds (iscrowd: 1), which training leaves out"
        records.add_problem(file, None, "all-crowd", message, "noted")


class _ImageIds:
    """Finds images by id, also where images and annotations write the same ids as number and as text."""

    def __init__(self, positions: Mapping[int | str, int]) -> None:
        self._positions = positions
        self.example: tuple[object, object] | None = None

    def find_all(self, rows: AnnotationRows) -> Ids:
        """Position of each annotation's image, -1 where there is none."""
        numbers = {key: position for key, position in self._positions.items() if fits(key)}
        ids = np.fromiter(numbers.keys(), np.int64, len(numbers))
        order = np.argsort(ids)
        ids, positions = ids[order], np.fromiter(numbers.values(), np.int64, len(numbers))[order]
        images = np.array(rows.images)
        places = np.searchsorted(ids, images)
        places[places == len(ids)] = 0
        found = np.where(ids[places] == images, positions[places], -1) if len(ids) else np.full(len(images), -1)
        for row in np.flatnonzero(found < 0).tolist():
            position = self._find(rows.written(row)[1])
            found[row] = -1 if position is None else position
        return found

    def _find(self, image: object) -> int | None:
        """Position of the image; keeps the first pair of ids that are alike but not equal."""
        key = as_id(image)
        if key is None or key in self._positions:
            return None if key is None else self._positions[key]
        own = self._alike.get(_plain(key))
        if own is None:
            return None
        self.example = self.example or (image, own)
        return self._positions[own]

    @cached_property
    def _alike(self) -> dict[int | str, int | str]:
        counts = Counter(map(_plain, self._positions))
        return {_plain(key): key for key in self._positions if counts[_plain(key)] == 1}


def _plain(key: int | str) -> int | str:
    number = as_numeric_id(key)
    return str(key).strip() if number is None else number


class _Objects:
    """The annotations while they are judged: all in arrays, those that are not as COCO says one by one.

    Attributes:
        owner: position of the image, -1 where there is none.
        labels: position in the classes of the file, -1 where it is none.
        corners, areas, crowds, difficult: as `Records` has them.
        keep: which become objects.
        texts, polygons: how many boxes were written as text, or taken from polygons.
    """

    def __init__(
        self, records: Records, file: Path, rows: AnnotationRows, owner: Ids, known: Mapping[int, int]
    ) -> None:
        self._records, self._file, self._rows, self._known = records, file, rows, known
        self._classes = list(dict.fromkeys(known.values()))
        self.owner = owner
        self.labels = self._all_labels(np.array(rows.categories))
        self.corners = rows.boxes.as_view()
        self.corners[:, 2:] += self.corners[:, :2]
        self.areas = np.array(rows.areas)
        self.areas[~((self.areas > 0) & (self.areas < MAX_AREA))] = NAN
        self.crowds, self.difficult = np.array(rows.crowds, bool), np.array(rows.difficult, bool)
        self.keep = np.ones(len(rows), bool)
        self.texts = self.polygons = 0

    def _all_labels(self, categories: Ids) -> Ids:
        found, places = np.unique(categories, return_inverse=True)
        places_of = {key: self._classes.index(own) for key, own in self._known.items()}
        return np.array([places_of.get(key, -1) for key in found.tolist()], np.int64)[places]

    def repeated(self) -> Mask:
        """Annotations whose id an earlier one has had; those of unknown images do not count."""
        keys = np.array(self._rows.keys)
        keyed = np.flatnonzero((keys != NO_ID) & (self.owner >= 0))
        keys = keys[keyed]
        found = np.zeros(len(self.owner), bool)
        if not (keys[1:] > keys[:-1]).all():
            _, first, places = np.unique(keys, return_index=True, return_inverse=True)
            found[keyed[first[places] != np.arange(len(keys))]] = True
        seen: set[object] = set()
        for row, (key, *_) in self._rows.odd.items():
            if isinstance(key, int | str) and not fits(key) and self.owner[row] >= 0:
                found[row] = key in seen
                seen.add(key)
        return found

    def judge(self, row: int, *, repeated: bool) -> None:
        """Look at one annotation: say what is wrong with it, and either leave it out or take its values."""
        line = self._rows.lines[row]
        key, image, category, bbox, crowd, area, difficult, shape = self._rows.written(row)
        self.keep[row] = False
        if self.owner[row] < 0:
            message = f"annotation {shown(key)} is of image {shown(image)}, not in the file"
            self._records.add_problem(self._file, line, "unknown-image", message)
            return
        if repeated:
            message = f"annotation id {shown(key)} is used again"
            self._records.add_problem(self._file, line, "duplicate-id", message, "noted")
        label = self._known.get(as_numeric_id(category))  # type: ignore[arg-type]
        if label is None:
            empty = "" if self._known else ", of which the file has none"
            message = f"annotation {shown(key)}: category_id {shown(category)} is not among the categories{empty}"
            self._records.add_problem(self._file, line, "unknown-class", message)
            return
        if row not in self._rows.odd:
            self.keep[row] = True
            return
        box, fault = _corners(bbox, shape)
        iscrowd = as_flag(crowd)
        if box is None or iscrowd is None:
            name = self._records.class_names[self._records.class_ids.index(label)]
            message = f"annotation {shown(key)}, {name}: {fault or f'iscrowd is {shown(crowd)}, neither 0 nor 1'}"
            self._records.add_problem(self._file, line, "not-finite" if fault else "bad-record", message)
            return
        self.texts += type(bbox) is str or str in map(type, bbox)
        self.polygons += shape == "polygon"
        size = as_number(area)
        self.keep[row], self.labels[row], self.corners[row] = True, self._classes.index(label), box
        self.areas[row] = size if 0 < size < MAX_AREA else NAN
        self.crowds[row], self.difficult[row] = iscrowd, bool(as_flag(difficult))

    def hand_over(self, kept: Ids) -> None:
        """Append the objects of some rows to the records."""
        rows = slice(None) if len(kept) == len(self.keep) else kept  # all without a copy
        self._records.add_objects(
            self.owner[rows],
            boxes=self.corners[rows],
            labels=_column(self._classes, self.labels[rows]),
            difficult=self.difficult[rows],
            iscrowd=self.crowds[rows],
            areas=self.areas[rows],
            lines=np.array(self._rows.lines)[rows],
            keys=self._rows.keys_of(kept),
        )


def _column(ids: Sequence[int], places: Ids) -> NDArray[np.int64] | list[int]:
    """Ids by their places, packed where they fit."""
    return np.array(ids, np.int64)[places] if all(map(fits, ids)) else [ids[place] for place in places.tolist()]


def _note_guesses(records: Records, file: Path, images: _ImageIds, texts: int, polygons: int) -> None:
    """One line for each way in which the file was understood though it is not as COCO says."""
    if images.example:
        message = "annotations write the images' ids in another type, as {!r} for {!r}: matched".format(*images.example)
        records.add_problem(file, None, "id-types", message, "noted")
    if texts:
        message = f"{texts} boxes are written as text; read as numbers"
        records.add_problem(file, None, "text-numbers", message, "noted")
    if polygons:
        message = f"{polygons} annotations have a polygon and no bbox; the box around the polygon is taken"
        records.add_problem(file, None, "polygon", message, "noted")


def _corners(bbox: Any, shape: str) -> tuple[Box | None, str]:
    """Corners of COCO's (x, y, width, height), or what is wrong."""
    if is_missing(bbox):
        return None, {"mask": "a mask (RLE) but no bbox", "": "no bbox"}.get(shape, "a polygon but no bbox")
    if type(bbox) is list and len(bbox) == 4 and {int, float}.issuperset(map(type, bbox)):
        numbers = four_numbers(bbox) if any(type(value) is int and abs(value) > 2**53 for value in bbox) else bbox
    else:
        numbers = four_numbers(bbox)
    if numbers is None:
        return None, f"bbox is {shown(bbox)}, not four finite numbers"
    x, y, width, height = numbers
    if not abs(x) + abs(y) + abs(width) + abs(height) < float("inf"):
        return None, f"bbox is {shown(bbox)}, not four finite numbers"
    return (float(x), float(y), float(x + width), float(y + height)), ""
