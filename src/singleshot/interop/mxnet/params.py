"""MXNet's ``.params``: a list of named arrays."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import WeightsError

MAGIC = 0x112
NDARRAY_V1, NDARRAY_V2, NDARRAY_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}
DENSE = 0
MAX_FILE_BYTES = 4 * 1024**3
MAX_ARRAYS = 100_000
MAX_DIMENSIONS = 8
MAX_NAME_BYTES = 4096


def read_params(path: Path) -> dict[str, NDArray[np.generic]]:
    """All arrays by name, ``arg:`` and ``aux:`` included.

    Raises:
        WeightsError: the file is damaged, truncated, or holds sparse arrays.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise WeightsError(f"{path}: larger than {MAX_FILE_BYTES} bytes; a detector is not")
    reader = _Reader(memoryview(path.read_bytes()))
    try:
        if reader.take("<QQ") != (MAGIC, 0):
            raise ValueError("it does not begin as one")
        arrays = [reader.array() for _ in range(reader.count(MAX_ARRAYS))]
        names = [reader.name() for _ in range(reader.count(MAX_ARRAYS))]
        if len(names) != len(arrays) or len(set(names)) != len(names):
            raise ValueError(f"{len(arrays)} arrays and {len(names)} names, or a name twice")
    except ValueError as error:
        raise WeightsError(f"{path}: no MXNet .params file, or damaged: {error}; get it again") from error
    return dict(zip(names, arrays, strict=True))


class _Reader:
    """Takes one piece after the other; nothing is allocated that the file does not hold."""

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.at = 0

    def bytes(self, length: int) -> memoryview:
        if length < 0 or length > len(self.content) - self.at:
            raise ValueError(f"{length} bytes claimed where {len(self.content) - self.at} are left")
        start, self.at = self.at, self.at + length
        return self.content[start : self.at]

    def take(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))

    def count(self, limit: int) -> int:
        (number,) = self.take("<Q")
        if number > limit:
            raise ValueError(f"{number} entries claimed")
        return number

    def name(self) -> str:
        return str(self.bytes(self.count(MAX_NAME_BYTES)), "utf-8")

    def array(self) -> NDArray[np.generic]:
        (magic,) = self.take("<I")
        if magic in (NDARRAY_V2, NDARRAY_V3):
            (kind,) = self.take("<i")
            if kind != DENSE:
                raise ValueError("a sparse array, which no detector has")
        shape = self.shape(magic)
        if not shape:
            return np.zeros(0, dtype=np.float32)
        _, _, dtype = self.take("<iii")
        if dtype not in DTYPES:
            raise ValueError(f"unknown type {dtype}")
        raw = self.bytes(math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize)
        return np.frombuffer(raw, DTYPES[dtype]).reshape(shape)

    def shape(self, magic: int) -> tuple[int, ...]:
        """Sides of an array; before there was a magic number it began with their count, and they had 32 bits."""
        is_old = magic not in (NDARRAY_V1, NDARRAY_V2, NDARRAY_V3)
        dimensions = magic if is_old else self.take("<i")[0]
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise ValueError(f"an array of {dimensions} dimensions")
        shape = self.take(f"<{dimensions}{'I' if is_old else 'q'}")
        if any(side < 0 for side in shape):
            raise ValueError(f"the impossible shape {shape}")
        return shape
