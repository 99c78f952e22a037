"""FlatBuffers, read by the numbers of their fields: tables that refer to one another by offset. Nothing is copied."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import WeightsError
from singleshot.interop.wire.protobuf import WireError

MAX_FILE_BYTES = 2**31
"""Offsets have 32 bits, and builders refuse more."""
MAX_ENTRIES = 200_000
"""Tables in one list."""
IDENTIFIER = slice(4, 8)


@dataclass(frozen=True, slots=True)
class FlatTable:
    """One table.

    Attributes:
        data: the whole buffer.
        at: where in it the table begins.
    """

    data: memoryview
    at: int

    def integer(self, number: int, form: str, default: int = 0) -> int:
        """A whole number; ``form`` is the stored type as `struct` calls it.

        Raises:
            WireError: it lies outside the buffer; so do the others.
        """
        place = self._place(number)
        return default if place is None else self._read(form, place)

    def table(self, number: int) -> FlatTable | None:
        """A table that is a field."""
        place = self._place(number)
        return None if place is None else self._follow(place)

    def tables(self, number: int) -> list[FlatTable]:
        """A list of tables."""
        start, count = self._vector(number, 4)
        if count > MAX_ENTRIES:
            raise WireError(f"a list of {count} tables")
        return [self._follow(start + 4 * index) for index in range(count)]

    def numbers(self, number: int, dtype: str) -> NDArray[np.generic]:
        """A list of numbers; ``dtype`` is NumPy's name of the stored type."""
        start, count = self._vector(number, np.dtype(dtype).itemsize)
        return np.frombuffer(self.data, dtype, count, start)

    def text(self, number: int) -> str:
        """A string; empty where there is none."""
        start, count = self._vector(number, 1)
        try:
            return str(self.data[start : start + count], "utf-8")
        except UnicodeDecodeError as error:
            raise WireError("a name that is not UTF-8") from error

    def _place(self, number: int) -> int | None:
        """Where a field lies, by the offsets that the table keeps elsewhere; ``None`` where it has its default."""
        offsets = self.at - self._read("<i", self.at)
        entry = 4 + 2 * number
        if entry + 2 > self._read("<H", offsets):
            return None
        place = self._read("<H", offsets + entry)
        return self.at + place if place else None

    def _follow(self, place: int) -> FlatTable:
        return FlatTable(self.data, place + self._read("<I", place))

    def _vector(self, number: int, item_bytes: int) -> tuple[int, int]:
        """Where a list's entries begin, and how many there are."""
        place = self._place(number)
        if place is None:
            return 0, 0
        start = place + self._read("<I", place)
        count = self._read("<I", start)
        if count * item_bytes > len(self.data) - start - 4:
            raise WireError(f"a list claims {count} entries where {len(self.data) - start - 4} bytes are left")
        return start + 4, count

    def _read(self, form: str, at: int) -> int:
        if not 0 <= at <= len(self.data) - struct.calcsize(form):
            raise WireError(f"an offset leads to byte {at} of {len(self.data)}")
        value: int = struct.unpack_from(form, self.data, at)[0]
        return value


def read_root(path: Path, identifier: bytes) -> FlatTable:
    """The first table of a file.

    Raises:
        WeightsError: the file is absurdly large, or does not bear the identifier.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise WeightsError(f"{path}: {size} bytes; such a file has at most {MAX_FILE_BYTES}")
    data = memoryview(path.read_bytes())
    if bytes(data[IDENTIFIER]) != identifier:
        raise WeightsError(f"{path}: does not bear the mark {identifier.decode()}: damaged, or another kind of file")
    return FlatTable(data, int.from_bytes(data[:4], "little"))
