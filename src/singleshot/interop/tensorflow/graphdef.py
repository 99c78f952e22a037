"""Constants of a frozen TensorFlow graph (``.pb``: a GraphDef on the wire)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import WeightsError
from singleshot.interop.wire.protobuf import (
    DELIMITED,
    WireError,
    fields,
    integers,
    nested,
    numbers,
    read_message,
    text,
)

Array = NDArray[np.generic]

# Field numbers of graph.proto, node_def.proto, attr_value.proto and tensor.proto.
NODE, NODE_NAME, NODE_OP, NODE_ATTRIBUTE = 1, 1, 2, 5
KEY, VALUE, VALUE_TENSOR = 1, 2, 8
TENSOR_TYPE, TENSOR_SHAPE, TENSOR_CONTENT = 1, 2, 4
FLOATS, DOUBLES = 5, 6
DIMENSION, SIDE = 2, 1
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 9: "<i8", 10: "?", 19: "<f2"}
MAX_DIMENSIONS = 8
MAX_FILLED = 1024**2
"""A constant may be one number for a whole shape; this is the most that it may fill."""


def read_constants(path: Path) -> dict[str, Array]:
    """The numbers of every constant node, by node name.

    Raises:
        WeightsError: the file is damaged, truncated, or no GraphDef.
    """
    try:
        found = dict(_constants(read_message(path)))
    except WireError as error:
        raise WeightsError(f"{path}: no frozen TensorFlow graph, or damaged: {error}; get it again") from error
    if not found:
        raise WeightsError(f"{path}: no constants in it: a graph that is not frozen holds no weights")
    return found


def _constants(graph: memoryview) -> Iterator[tuple[str, Array]]:
    for number, wire, value in fields(graph):
        if number != NODE or wire != DELIMITED:
            continue
        name, op, tensor = "", "", None
        for inner, _, content in fields(nested(value)):
            if inner == NODE_NAME:
                name = text(content)
            elif inner == NODE_OP:
                op = text(content)
            elif inner == NODE_ATTRIBUTE:
                tensor = _value_tensor(nested(content)) or tensor
        if op == "Const" and tensor is not None:
            array = _tensor(tensor)
            if array is not None:
                yield name, array


def _value_tensor(attribute: memoryview) -> memoryview | None:
    """The tensor of the attribute ``value``."""
    parts = {number: content for number, _, content in fields(attribute)}
    if KEY not in parts or text(parts[KEY]) != "value" or VALUE not in parts:
        return None
    return next(
        (nested(content) for number, _, content in fields(nested(parts[VALUE])) if number == VALUE_TENSOR), None
    )


def _tensor(message: memoryview) -> Array | None:
    """Numbers of a TensorProto; nothing for text."""
    kind, shape, raw, listed = 0, [], memoryview(b""), []
    for number, wire, value in fields(message):
        if number == TENSOR_TYPE:
            kind = integers(wire, value)[0]
        elif number == TENSOR_SHAPE:
            shape = [_side(nested(side)) for inner, _, side in fields(nested(value)) if inner == DIMENSION]
        elif number == TENSOR_CONTENT:
            raw = nested(value)
        elif number in (FLOATS, DOUBLES):
            listed.append(numbers(value, "<f4" if number == FLOATS else "<f8"))
    if kind not in DTYPES or (not raw and not listed):
        return None
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0:
        raise WireError(f"a constant claims the impossible shape {shape[:MAX_DIMENSIONS]}")
    count = math.prod(shape)
    data = numbers(raw, DTYPES[kind]) if raw else np.concatenate(listed)
    if len(data) == 1 and 1 < count <= MAX_FILLED:
        data = np.repeat(data, count)
    if len(data) != count:
        raise WireError(f"a constant claims the shape {shape} and holds {len(data)} numbers")
    return data.reshape(shape)


def _side(message: memoryview) -> int:
    return next((integers(wire, value)[0] for number, wire, value in fields(message) if number == SIDE), 0)
