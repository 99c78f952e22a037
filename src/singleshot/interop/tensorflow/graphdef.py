"""Frozen graphs of the TF Object Detection API (``frozen_inference_graph.pb``: a GraphDef on the wire)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import WeightsError
from singleshot.interop.fill import Imported
from singleshot.interop.tensorflow.spec import convert_arrays
from singleshot.interop.wire import protobuf as pb

Array = NDArray[np.generic]

FROZEN = "frozen_inference_graph.pb"

# Field numbers of graph.proto, node_def.proto, attr_value.proto and tensor.proto.
NODE, NODE_NAME, NODE_OP, NODE_ATTRIBUTE = 1, 1, 2, 5
KEY, VALUE, VALUE_SHAPE, VALUE_TENSOR = 1, 2, 7, 8
TENSOR_TYPE, TENSOR_SHAPE, TENSOR_CONTENT = 1, 2, 4
FLOATS, DOUBLES = 5, 6
DIMENSION, SIDE = 2, 1
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 9: "<i8", 10: "?", 19: "<f2"}
MAX_FILLED = 1024**2
"""A constant may be one number for a whole shape; this is the most that it may fill."""


def read(path: str | Path) -> Imported:
    """Convert a frozen SSD; BatchNorms keep their statistics, so it can be trained on.

    Args:
        path: the ``.pb`` file, or its folder.

    Raises:
        WeightsError: it is damaged, or another network.
    """
    path = Path(path)
    file = path / FROZEN if path.is_dir() else path
    return convert_arrays(read_constants(file), file, "tensorflow")


def read_constants(path: Path) -> dict[str, Array]:
    """The numbers of every constant node, by node name; of a placeholder, its shape, where that is known.

    Raises:
        WeightsError: the file is damaged, truncated, or no GraphDef.
    """
    try:
        found = dict(_constants(pb.read_message(path)))
    except pb.WireError as error:
        raise WeightsError(f"{path}: no frozen TensorFlow graph, or damaged: {error}; get it again") from error
    if not found:
        raise WeightsError(f"{path}: no constants in it: a graph that is not frozen holds no weights")
    return found


def _constants(graph: memoryview) -> Iterator[tuple[str, Array]]:
    for number, wire, value in pb.fields(graph):
        if number != NODE or wire != pb.DELIMITED:
            continue
        name, op, tensor, shape = "", "", None, None
        for inner, _, content in pb.fields(pb.nested(value)):
            if inner == NODE_NAME:
                name = pb.text(content)
            elif inner == NODE_OP:
                op = pb.text(content)
            elif inner == NODE_ATTRIBUTE:
                attribute = pb.nested(content)
                tensor = _attribute(attribute, "value", VALUE_TENSOR) or tensor
                shape = _attribute(attribute, "shape", VALUE_SHAPE) or shape
        if op == "Const" and tensor is not None:
            array = _tensor(tensor)
            if array is not None:
                yield name, array
        elif op == "Placeholder" and shape is not None:
            yield name, np.array(_shape(shape), np.int64)


def _attribute(attribute: memoryview, name: str, kind: int) -> memoryview | None:
    """An attribute's value, if that is its name; ``kind`` is the field number of its type."""
    parts = {number: content for number, _, content in pb.fields(attribute)}
    if KEY not in parts or pb.text(parts[KEY]) != name or VALUE not in parts:
        return None
    return next(
        (pb.nested(content) for number, _, content in pb.fields(pb.nested(parts[VALUE])) if number == kind), None
    )


def _tensor(message: memoryview) -> Array | None:
    """Numbers of a TensorProto; nothing for text."""
    kind, shape, raw, listed = 0, [], memoryview(b""), []
    for number, wire, value in pb.fields(message):
        if number == TENSOR_TYPE:
            kind = pb.integers(wire, value)[0]
        elif number == TENSOR_SHAPE:
            shape = _shape(pb.nested(value))
        elif number == TENSOR_CONTENT:
            raw = pb.nested(value)
        elif number in (FLOATS, DOUBLES):
            listed.append(pb.numbers(value, "<f4" if number == FLOATS else "<f8"))
    if kind not in DTYPES or (not raw and not listed):
        return None
    if len(shape) > pb.MAX_DIMENSIONS:
        raise pb.WireError(f"an array of {len(shape):,} sides")
    count = math.prod(shape)
    data = pb.numbers(raw, DTYPES[kind]) if raw else np.concatenate(listed)
    if len(data) == 1 and 1 < count <= MAX_FILLED:
        data = np.repeat(data, count)
    return pb.shaped(data, shape)


def _shape(message: memoryview) -> list[int]:
    return [_side(pb.nested(side)) for number, _, side in pb.fields(message) if number == DIMENSION]


def _side(message: memoryview) -> int:
    return next((pb.integers(wire, value)[0] for number, wire, value in pb.fields(message) if number == SIDE), 0)
