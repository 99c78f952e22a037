"""Protocol buffers, field by field, without a schema and without copies: enough to look into an ONNX file safely."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

MAX_FIELDS = 1_000_000
"""Of one message; a network has some thousands of nodes."""

Value = int | memoryview


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message.

    Raises:
        ValueError: it is no message, or ends before its end.
    """
    at = count = 0
    while at < len(message):
        count += 1
        if count > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS:,} entries")
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field without a number")
        value: Value
        if kind == VARINT:
            value, at = _varint(message, at)
        elif kind in (FIXED32, FIXED64):
            end = at + (4 if kind == FIXED32 else 8)
            value, at = message[at:end], end
        elif kind == BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            raise ValueError(f"a field of kind {kind}")
        if at > len(message):
            raise ValueError("it ends before its end")
        yield number, value


def numbers(value: Value) -> Iterator[int]:
    """The numbers of a repeated field of whole numbers, packed or not."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def text(value: Value) -> str:
    """A string.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, int):
        raise ValueError("a number in place of a string")
    return bytes(value).decode("utf-8")


def message(value: Value) -> memoryview:
    """A message within a message.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, int):
        raise ValueError("a number in place of a message")
    return value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("it ends before its end" if at >= len(data) else "a number of more than 64 bits")
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        shift += 7
        if byte < 128:
            return value, at
