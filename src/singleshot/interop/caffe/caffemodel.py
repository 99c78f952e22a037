"""Trained numbers of Caffe (``.caffemodel``: a NetParameter on the wire)."""

from __future__ import annotations

import math
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

Blobs = list[NDArray[np.float32]]

MAX_DIMENSIONS = 8
# Field numbers of caffe.proto. Networks of before 2014 have "layers" with other numbers.
NET_LAYERS = {100: (1, 7), 2: (4, 6)}
"""Field of a layer in the network -> fields of its name and of its blobs."""
SHAPE, DATA, DOUBLE_DATA, RAW_TYPE, RAW_DATA = 7, 5, 8, 10, 12
LEGACY_DIMENSIONS = (1, 2, 3, 4)
RAW_TYPES = {0: "<f8", 1: "<f4", 2: "<f2"}
"""NVIDIA's extension, which OpenCV writes its 16-bit models with."""


def read_caffemodel(path: Path) -> dict[str, Blobs]:
    """The numbers of every layer that has some, by layer name.

    Raises:
        WeightsError: the file is damaged, truncated, or no caffemodel.
    """
    try:
        found = dict(_layers(read_message(path)))
    except WireError as error:
        raise WeightsError(f"{path}: no caffemodel, or damaged: {error}; get it again") from error
    if not any(found.values()):
        raise WeightsError(f"{path}: no caffemodel: it has no layer with numbers")
    return {name: blobs for name, blobs in found.items() if blobs}


def _layers(net: memoryview) -> list[tuple[str, Blobs]]:
    layers = []
    for number, wire, value in fields(net):
        if number in NET_LAYERS and wire == DELIMITED:
            name_field, blob_field = NET_LAYERS[number]
            name, blobs = "", []
            for inner, inner_wire, content in fields(nested(value)):
                if inner == name_field and inner_wire == DELIMITED:
                    name = text(content)
                elif inner == blob_field and inner_wire == DELIMITED:
                    blobs.append(_blob(nested(content)))
            layers.append((name, blobs))
    return layers


def _blob(message: memoryview) -> NDArray[np.float32]:
    shape: list[int] = []
    legacy: dict[int, int] = {}
    parts: list[NDArray[np.generic]] = []
    raw, raw_type = memoryview(b""), 1
    for number, wire, value in fields(message):
        if number == SHAPE:
            shape = [side for inner, kind, dims in fields(nested(value)) if inner == 1 for side in integers(kind, dims)]
        elif number == DATA:
            parts.append(numbers(value, "<f4"))
        elif number == DOUBLE_DATA:
            parts.append(numbers(value, "<f8"))
        elif number == RAW_TYPE:
            raw_type = integers(wire, value)[0]
        elif number == RAW_DATA:
            raw = nested(value)
        elif number in LEGACY_DIMENSIONS:
            legacy[number] = integers(wire, value)[0]
    if raw:
        parts.append(numbers(raw, RAW_TYPES.get(raw_type, "<f4")))
    if not shape and legacy:
        shape = [legacy.get(number, 1) for number in LEGACY_DIMENSIONS]
    data = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return _shaped(data.astype(np.float32), shape)


def _shaped(data: NDArray[np.float32], shape: list[int]) -> NDArray[np.float32]:
    if not shape:
        shape = [len(data)]
    if len(shape) > MAX_DIMENSIONS or min(shape) < 0 or math.prod(shape) != len(data):
        raise WireError(f"a blob claims the shape {shape[:MAX_DIMENSIONS]} and holds {len(data)} numbers")
    return data.reshape(shape)
