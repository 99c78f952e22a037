"""Protocol buffers on the wire, read without a schema: numbered fields one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import WeightsError

MAX_FILE_BYTES = 4 * 1024**3
MAX_VARINT_BYTES = 10
MAX_DIMENSIONS = 8
MAX_FIELDS = 4_000_000
"""Of one message. A network has some thousands of nodes, and numbers are packed."""

VARINT, EIGHT_BYTES, DELIMITED, FOUR_BYTES = 0, 1, 2, 5
Number = TypeVar("Number", bound=np.generic)
Value = int | memoryview
Field = tuple[int, int, Value]
"""(number, wire type, value): an int for varints, else the bytes."""


class WireError(ValueError):
    """Bytes that are no message. Turned into a WeightsError where the file is known."""


def read_message(path: Path) -> memoryview:
    """The bytes of a file that holds one message.

    Raises:
        WeightsError: it is empty or absurdly large.
    """
    size = path.stat().st_size
    if not 0 < size <= MAX_FILE_BYTES:
        raise WeightsError(f"{path}: {size} bytes; such a file has 1 to {MAX_FILE_BYTES}")
    return memoryview(path.read_bytes())


def fields(message: memoryview) -> Iterator[Field]:
    """All fields of a message, in order. Nothing is copied.

    Raises:
        WireError: a field reaches beyond the message, or makes no sense, or there are absurdly many.
    """
    at, end, count = 0, len(message), 0
    while at < end:
        count += 1
        if count > MAX_FIELDS:
            raise WireError(f"more than {MAX_FIELDS:,} fields")
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        value: Value
        if wire == VARINT:
            value, at = _varint(message, at)
        elif wire in (EIGHT_BYTES, FOUR_BYTES, DELIMITED):
            length = 8 if wire == EIGHT_BYTES else 4
            if wire == DELIMITED:
                length, at = _varint(message, at)
            if number == 0 or length > end - at:
                raise WireError(f"field {number} claims {length} bytes where {end - at} are left")
            value, at = message[at : at + length], at + length
        else:
            raise WireError(f"wire type {wire} does not exist")
        yield number, wire, value


def text(value: Value) -> str:
    """A string field.

    Raises:
        WireError: it is not UTF-8, or no string.
    """
    if isinstance(value, int):
        raise WireError("a number where a name belongs")
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise WireError("a name that is not UTF-8") from error


def nested(value: Value) -> memoryview:
    """A field that is a message of its own.

    Raises:
        WireError: it is a number.
    """
    if isinstance(value, int):
        raise WireError("a number where a message belongs")
    return value


def integers(wire: int, value: Value) -> list[int]:
    """One varint, or many packed together; 64-bit, signed."""
    if isinstance(value, int):
        return [_signed(value)]
    if wire != DELIMITED:
        raise WireError("fixed bytes where whole numbers belong")
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(_signed(number))
    return found


def numbers(value: Value, dtype: str) -> NDArray[np.generic]:
    """Numbers of fixed width, packed or alone.

    Args:
        value: of the field.
        dtype: NumPy's name of the stored type.

    Raises:
        WireError: the bytes are no whole number of them.
    """
    if isinstance(value, int) or len(value) % np.dtype(dtype).itemsize:
        raise WireError(f"{'a varint' if isinstance(value, int) else f'{len(value)} bytes'} where {dtype} belong")
    return np.frombuffer(value, dtype)


def shaped(data: NDArray[Number], shape: list[int]) -> NDArray[Number]:
    """Numbers in the shape that a message claims for them.

    Raises:
        WireError: they are more or fewer, or the shape is impossible.
    """
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or math.prod(shape) != len(data):
        raise WireError(f"an array claims the shape {shape[:MAX_DIMENSIONS]} and holds {len(data)} numbers")
    return data.reshape(shape)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A whole number in groups of seven bits, and the offset behind it."""
    result = 0
    for index in range(MAX_VARINT_BYTES):
        if at + index >= len(message):
            raise WireError("it ends within a number")
        byte = message[at + index]
        result |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, at + index + 1
    raise WireError("a number of more than ten bytes")


def write_field(number: int, content: bytes) -> bytes:
    """A field of bytes: a text, or a message of its own."""
    return _written(number << 3 | DELIMITED) + _written(len(content)) + content


def write_number(number: int, value: int) -> bytes:
    """A field that is a whole number, not negative."""
    return _written(number << 3 | VARINT) + _written(value)


def _written(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
