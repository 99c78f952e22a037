"""All objects of a data set in arrays while they are judged."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from singleshot.core.structures import ClassMap
from singleshot.data.bad_records import Action, Problem
from singleshot.data.records import Records

Mask = NDArray[np.bool_]


@dataclass
class Columns:
    """The objects' columns as arrays, and the problems found so far."""

    records: Records
    owner: NDArray[np.int64]
    boxes: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    areas: NDArray[np.float64]
    keep: Mask
    problems: list[Problem]
    names: Mapping[str | int, str]

    def report(self, rows: Mask, kind: str, action: Action, message: Callable[[int], str]) -> None:
        """Add a problem for each marked object, and take it out when ``action`` is ``skipped``."""
        for row in np.flatnonzero(rows).tolist():
            image = self.records.images[self.owner[row]]
            line = self.records.lines[row] or None
            self.problems.append(
                Problem(image.objects_file or image.file, line, kind, action, message(row), image.path)
            )
        if action == "skipped":
            self.keep &= ~rows

    def class_name(self, row: int) -> str:
        """The object's class, as its file calls it where the file does not name it."""
        label = self.records.labels[row]
        return self.names.get(label, str(label))

    def written(self, row: int) -> str:
        """The object's id where it has one, its class, and its corners as the file has them."""
        key = "" if self.records.keys[row] is None else f"annotation {self.records.keys[row]}, "
        return f"{key}{self.class_name(row)} ({', '.join(f'{value:g}' for value in self.records.boxes[row])})"


def columns_of(records: Records, class_map: ClassMap, usable: Mask, problems: list[Problem]) -> Columns:
    """The objects of records, those of usable images kept."""
    by_name = {name: index for index, name in enumerate(class_map.names)}
    index: dict[str | int, int] = {}
    index.update(by_name)
    for key, name in zip(records.class_ids, records.class_names, strict=False):
        index[key] = by_name.get(name, -1)
    owner = np.array(records.owner, dtype=np.int64)
    return Columns(
        records,
        owner,
        records.boxes.as_array(),
        _indices(records.labels, index),
        np.array(records.areas, dtype=np.float64),
        usable[owner],
        problems,
        dict(zip(records.class_ids, records.class_names, strict=False)),
    )


def _indices(labels: Sequence[str | int], index: Mapping[str | int, int]) -> NDArray[np.int64]:
    """The class index of each label; -1 for what is none."""
    if not isinstance(labels, array):
        return np.fromiter((index.get(label, -1) for label in labels), np.int64, len(labels))
    found, places = np.unique(np.array(labels), return_inverse=True)
    return np.array([index.get(label, -1) for label in found.tolist()], np.int64)[places]
