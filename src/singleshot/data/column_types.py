"""Columns of a table of a million rows without a Python object for each: texts, paths, boxes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CODES = {"bool": "b", "int8": "b", "int32": "i", "int64": "q", "float64": "d"}


class TextColumn:
    """Texts, one after another in one block of bytes; any `str` comes back as it was, also halves of signs."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._block = bytearray()
        self._ends = array("q", [0])
        for text in texts:
            self.append(text)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> str:
        start, end = self._ends[row : row + 2] if row >= 0 else self._ends[len(self) + row :][:2]
        return self._block[start:end].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    def append(self, text: str) -> None:
        """Add a text."""
        self._block += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._block))

    def pop(self) -> None:
        """Take the last one away."""
        self._ends.pop()
        del self._block[self._ends[-1] :]


class PathColumn:
    """Paths as texts: what they share, their folders, is kept once."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._folders: list[str] = []
        self._numbers: dict[str, int] = {}
        self._folder = array("i")
        self._names = TextColumn()
        for path in paths:
            self.append(path)

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, row: int) -> str:
        return self._folders[self._folder[row]] + self._names[row]

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    def append(self, path: str) -> None:
        """Add a path."""
        cut = path.rfind(os.sep) + 1
        folder = path[:cut]
        number = self._numbers.get(folder)
        if number is None:
            number = self._numbers[folder] = len(self._folders)
            self._folders.append(folder)
        self._folder.append(number)
        self._names.append(path[cut:])

    def pop(self) -> None:
        """Take the last one away."""
        self._folder.pop()
        self._names.pop()

    @property
    def folders(self) -> Sequence[str]:
        """Each folder once, with its slash."""
        return self._folders

    @property
    def folder_numbers(self) -> NDArray[np.int32]:
        """Position in ``folders`` of each path's, ``[N]``."""
        return np.array(self._folder, np.int32)

    def keys(self) -> NDArray[np.int64]:
        """A number for each path, the same for equal paths and, but for a chance of 2**-64, other for others."""
        return text_keys(self)


def text_keys(texts: Iterable[str]) -> NDArray[np.int64]:
    """A number for each text, the same for equal ones and, but for a chance of 2**-64, other for others."""
    return np.fromiter(map(hash, texts), np.int64)


class BoxColumn:
    """Rows of four numbers."""

    def __init__(self, boxes: Iterable[Sequence[float]] = ()) -> None:
        self._values = array("d", [value for box in boxes for value in box])

    def __len__(self) -> int:
        return len(self._values) // 4

    def __getitem__(self, row: int) -> tuple[float, float, float, float]:
        x0, y0, x1, y1 = self._values[4 * row : 4 * row + 4]
        return x0, y0, x1, y1

    def __iter__(self) -> Iterator[tuple[float, float, float, float]]:
        return map(self.__getitem__, range(len(self)))

    def append(self, box: Sequence[float]) -> None:
        """Add a row."""
        self._values.extend(box)

    def extend(self, boxes: BoxColumn | NDArray[np.float64]) -> None:
        """Add many rows, ``[N, 4]``."""
        if isinstance(boxes, BoxColumn):
            self._values += boxes._values
        else:
            self._values.frombytes(raw_bytes(boxes.astype(np.float64, copy=False)))

    def as_view(self) -> NDArray[np.float64]:
        """The rows themselves, ``[N, 4]``; none can be added while it is there."""
        return np.frombuffer(self._values, np.float64).reshape(-1, 4)

    def as_array(self) -> NDArray[np.float64]:
        """A copy, ``[N, 4]``."""
        return np.array(self._values, np.float64).reshape(-1, 4)


def added(column: Any, more: Any) -> Any:
    """A column with the rows of another: packed where both are packed alike or nothing stood before, else a list."""
    if isinstance(column, BoxColumn):
        column.extend(more)
        return column
    if not len(column):
        return more[:] if isinstance(more, list | array) else column_of(more)
    if isinstance(column, array) and isinstance(more, np.ndarray):
        more = array(column.typecode, more.astype(column.typecode, copy=False).tobytes())
    if isinstance(column, array) and not (isinstance(more, array) and more.typecode == column.typecode):
        column = list(column)
    column.extend(more if isinstance(more, list | array) else more.tolist())
    return column


def raw_bytes(values: NDArray[Any]) -> memoryview:
    """The bytes of an array, without a copy if they lie together."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def column_of(values: NDArray[Any]) -> MutableSequence[Any]:
    """An array of NumPy as a column that grows."""
    column = array(_CODES[values.dtype.name])
    column.frombytes(raw_bytes(values))
    return column


def taken(column: Any, rows: NDArray[np.int64]) -> Any:
    """Some rows of a column, of the same kind."""
    if isinstance(column, BoxColumn):
        picked = BoxColumn()
        picked.extend(column.as_array()[rows])
        return picked
    if isinstance(column, array):
        return array(column.typecode, np.array(column)[rows].tobytes())
    return [column[row] for row in rows.tolist()]
