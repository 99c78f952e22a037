"""Writes TFLite files: FlatBuffers by the numbers of their fields."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TYPES = {"f4": 0, "f2": 1, "i4": 2, "u1": 3, "i1": 9}
CODES = (3, 4, 6, 32)
CONV, DEPTHWISE, DEQUANTIZE, CUSTOM = range(4)
SAME, VALID = 0, 1
Table = Mapping[int, Any]
"""Field number -> a number, text, a table, a list of tables, or an array."""


def flatbuffer(root: Table, identifier: bytes) -> bytes:
    buffer = bytearray(struct.pack("<I4s", 0, identifier))
    struct.pack_into("<I", buffer, 0, _table(buffer, root))
    return bytes(buffer)


def _table(buffer: bytearray, fields: Table) -> int:
    """Offsets of the fields, then the table, then what it refers to."""
    count = max(fields, default=-1) + 1
    present = [number for number in range(count) if number in fields]
    offsets = len(buffer)
    slots = {number: 4 + 4 * index for index, number in enumerate(present)}
    entries = [slots.get(number, 0) for number in range(count)]
    buffer += struct.pack(f"<{2 + count}H", 4 + 2 * count, 4 + 4 * len(present), *entries)
    _align(buffer)
    start = len(buffer)
    buffer += struct.pack("<i", start - offsets) + bytes(4 * len(present))
    for number in present:
        place, value = start + slots[number], fields[number]
        if isinstance(value, int):
            struct.pack_into("<i", buffer, place, value)
        else:
            struct.pack_into("<I", buffer, place, _child(buffer, value) - place)
    return start


def _child(buffer: bytearray, value: Any) -> int:
    if isinstance(value, Mapping):
        return _table(buffer, value)
    _align(buffer)
    start = len(buffer)
    if isinstance(value, list):
        buffer += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for place, one in zip(range(start + 4, len(buffer), 4), value, strict=True):
            struct.pack_into("<I", buffer, place, _table(buffer, one) - place)
    else:
        content = value.encode() if isinstance(value, str) else value.tobytes()
        buffer += struct.pack("<I", len(value)) + content
        _align(buffer)
    return start


def _align(buffer: bytearray) -> None:
    buffer += bytes(-len(buffer) % 4)


class Writer:
    """A graph that grows tensor by tensor, operation by operation."""

    def __init__(self, input_shape: Sequence[int], kind: str = "f4") -> None:
        self.tensors: list[Table] = []
        self.buffers: list[Table] = [{}]
        self.operators: list[Table] = []
        self.image = self.tensor("normalized_input_image_tensor", input_shape, kind)

    def tensor(self, name: str, shape: Sequence[int], kind: str = "f4", scales: np.ndarray | None = None) -> int:
        sides = np.array(shape, "<i4")
        quantization = {} if scales is None else {4: {2: scales.astype("<f4"), 3: np.zeros(len(scales), "<i8"), 6: 0}}
        self.tensors.append({0: sides, 1: TYPES[kind], 2: 0, 3: name, **quantization})
        return len(self.tensors) - 1

    def constant(self, name: str, value: np.ndarray, scales: np.ndarray | None = None) -> int:
        """Half floats get the operation that makes floats of them."""
        kind = value.dtype.str[1:]
        index = self.tensor(name, value.shape, kind, scales)
        self.buffers.append({0: np.frombuffer(value.tobytes(), np.uint8)})
        self.tensors[index] = {**self.tensors[index], 2: len(self.buffers) - 1}
        if kind != "f2":
            return index
        floats = self.tensor(f"{name}_dequantize", value.shape)
        self.operate(DEQUANTIZE, [index], floats)
        return floats

    def operate(self, code: int, inputs: Sequence[int], output: int, padding: int = SAME, activation: int = 0) -> None:
        options = {0: padding, 1: 1, 2: 1, 3 if code == CONV else 4: activation}
        self.operators.append({0: code, 1: np.array(inputs, "<i4"), 2: np.array([output], "<i4"), 4: options})

    def write(self) -> bytes:
        codes: list[Table] = [{0: code, 3: code} for code in CODES]
        codes[CUSTOM] = {**codes[CUSTOM], 1: "TFLite_Detection_PostProcess"}
        graph = {0: self.tensors, 1: np.array([self.image], "<i4"), 2: np.array([0], "<i4"), 3: self.operators}
        return flatbuffer({0: 3, 1: codes, 2: [graph], 4: self.buffers}, b"TFL3")
