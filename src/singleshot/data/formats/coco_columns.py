"""The images and annotations of a COCO file in columns, without a Python object for each that is as COCO says."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.data.column_types import BoxColumn, TextColumn
from singleshot.data.headers import MAX_SIDE
from singleshot.data.records import declared_size
from singleshot.data.values import NAN, as_number, as_numeric_id

Pick = Callable[[Any], tuple[Any, ...]]
Lines = NDArray[np.int64]
Ids = NDArray[np.int64]
NO_ID = -(2**63)
"""In a column of ids: the element has none, or one that is no whole number."""
FAR = 1e15
"""Boxes with larger numbers are looked at one by one."""
_NO_BOX = (0.0, 0.0, 0.0, 0.0)
_NONE = type(None)


class Rows:
    """A list of few elements: what was picked of each, and its line."""

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self.values: list[tuple[Any, ...]] = []
        self.lines: list[int] = []

    def add(self, elements: list[Any], lines: Lines) -> None:
        """Take elements."""
        self.values += map(self._pick, elements)
        self.lines += lines.tolist()


class ImageRows:
    """The images.

    Attributes:
        ids: whole numbers; `NO_ID` for others, which are in ``odd``.
        names: their file names, empty where that is none.
        sizes_hw: stated (height, width), 0 where none is.
        lines: where each begins.
        odd: (id, file_name) as written, by row, of images whose id is no whole number or whose name is none.
    """

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self.ids, self.lines, self.sizes_hw = array("q"), array("q"), array("i")
        self.names = TextColumn()
        self.odd: dict[int, tuple[Any, Any]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, elements: list[Any], lines: Lines) -> None:
        """Take elements."""
        for key, name, height, width in map(self._pick, elements):
            if type(key) is not int or not fits(key) or type(name) is not str or not name:
                self.odd[len(self)] = (key, name)
                key, name = NO_ID, name if isinstance(name, str) else ""
            if type(height) is int and type(width) is int and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE:
                self.sizes_hw.append(height)
                self.sizes_hw.append(width)
            else:
                self.sizes_hw.extend(declared_size(as_number(height), as_number(width)) or (0, 0))
            self.ids.append(key)
            self.names.append(name)
        self.lines.frombytes(lines.tobytes())

    def written(self, row: int) -> tuple[Any, Any]:
        """id and file_name as the file has them."""
        return self.odd[row] if row in self.odd else (self.ids[row], self.names[row])


class AnnotationRows:
    """The annotations.

    Attributes:
        keys, images, categories: ids; annotations may have no key.
        boxes: (x, y, width, height).
        crowds, difficult: flags.
        areas: in square pixels, NaN where none is stated.
        lines: where each begins.
        odd: what was picked, by row, of annotations that are not as COCO says; the columns say nothing of them.
    """

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self.keys, self.images, self.categories, self.lines = (array("q") for _ in range(4))
        self.boxes, self.areas = BoxColumn(), array("d")
        self.crowds, self.difficult = array("b"), array("b")
        self.odd: dict[int, tuple[Any, ...]] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, elements: list[Any], lines: Lines) -> None:
        """Take elements."""
        self.lines.frombytes(lines.tobytes())
        self._add([self._pick(element) for element in elements])

    def _add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Plain rows at once; where one is odd, halves, until that one is alone."""
        if self._add_plain(rows):
            return
        if len(rows) > 1:
            half = len(rows) // 2
            self._add(rows[:half])
            self._add(rows[half:])
            return
        self.odd[len(self)] = rows[0]
        self.keys.append(rows[0][0] if fits(rows[0][0]) else NO_ID)
        self.images.append(NO_ID)
        self.categories.append(NO_ID)
        self.boxes.append(_NO_BOX)
        self.areas.append(NAN)
        self.crowds.append(0)
        self.difficult.append(0)

    def _add_plain(self, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Add rows if all of them are as COCO says; whether they are. Types are told in C: rows come by the million."""
        keys, images, categories, boxes, crowds, areas, difficult, shapes = zip(*rows, strict=True)
        if not (
            _are((*images, *categories), int)
            and _are(keys, int, _NONE)
            and _are(boxes, list)
            and {*map(len, boxes)} == {4}
            and _are(chain.from_iterable(boxes), int, float)
            and _are((*crowds, *difficult), int, bool, _NONE)
            and _are(areas, int, float, _NONE)
            and "polygon" not in shapes
        ):
            return False
        try:
            ids = [np.array(column, np.int64) for column in (images, categories, _filled(keys, NO_ID))]
            areas_px = np.array(_filled(areas, NAN), np.float64)
            corners = np.array(boxes, np.float64)
        except OverflowError:
            return False
        if not (np.abs(corners) < FAR).all() or any(NO_ID in column for column in (keys, images, categories)):
            return False
        for column, found in zip((self.images, self.categories, self.keys), ids, strict=True):
            column.frombytes(found.tobytes())
        self.areas.frombytes(areas_px.tobytes())
        self.boxes.extend(corners)
        self.crowds.extend(map(bool, crowds))
        self.difficult.extend(map(bool, difficult))
        return True

    def written(self, row: int) -> tuple[Any, ...]:
        """What was picked of an annotation (of plain ones: boxes as numbers with a point, flags as 0 and 1)."""
        if row in self.odd:
            return self.odd[row]
        key = None if self.keys[row] == NO_ID else self.keys[row]
        flags = self.crowds[row], self.areas[row], self.difficult[row]
        return (key, self.images[row], self.categories[row], [*self.boxes[row]], *flags, "")

    def keys_of(self, rows: Ids) -> Ids | list[Any]:
        """The ids of some annotations as the file has them; `None` for those without."""
        keys = np.array(self.keys)[rows]
        if not self.odd and (keys != NO_ID).all():
            return keys
        return [
            self.odd[row][0] if row in self.odd else None if key == NO_ID else key
            for row, key in zip(rows.tolist(), keys.tolist(), strict=True)
        ]

    def has_category(self, key: int) -> bool:
        """Whether an annotation is of a category."""
        return (fits(key) and key in self.categories) or any(as_numeric_id(row[2]) == key for row in self.odd.values())


def fits(key: object) -> bool:
    """Whether an id is a whole number that a column holds."""
    return isinstance(key, int) and NO_ID < key < -NO_ID


def _are(values: Iterable[Any], *kinds: type) -> bool:
    """Whether all values are of some types, and not of subtypes (true is no number)."""
    return set(kinds).issuperset(map(type, values))


def _filled(values: Sequence[Any], missing: float) -> Sequence[Any]:
    return [missing if value is None else value for value in values] if None in values else values
