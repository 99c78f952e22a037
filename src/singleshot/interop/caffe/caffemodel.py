"""Trained numbers of Caffe (``.caffemodel``: a NetParameter on the wire)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import WeightsError
from singleshot.interop.wire import protobuf as pb

Blobs = list[NDArray[np.float32]]

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
        found = dict(_layers(pb.read_message(path)))
    except pb.WireError as error:
        raise WeightsError(f"{path}: no caffemodel, or damaged: {error}; get it again") from error
    if not any(found.values()):
        raise WeightsError(f"{path}: no caffemodel: it has no layer with numbers")
    return {name: blobs for name, blobs in found.items() if blobs}


def _layers(net: memoryview) -> list[tuple[str, Blobs]]:
    layers = []
    for number, wire, value in pb.fields(net):
        if number in NET_LAYERS and wire == pb.DELIMITED:
            name_field, blob_field = NET_LAYERS[number]
            name, blobs = "", []
            for inner, inner_wire, content in pb.fields(pb.nested(value)):
                if inner == name_field and inner_wire == pb.DELIMITED:
                    name = pb.text(content)
                elif inner == blob_field and inner_wire == pb.DELIMITED:
                    blobs.append(_blob(pb.nested(content)))
            layers.append((name, blobs))
    return layers


def _blob(message: memoryview) -> NDArray[np.float32]:
    shape: list[int] = []
    legacy: dict[int, int] = {}
    parts: list[NDArray[np.generic]] = []
    raw, raw_type = memoryview(b""), 1
    for number, wire, value in pb.fields(message):
        if number == SHAPE:
            shape = [
                side
                for inner, kind, dims in pb.fields(pb.nested(value))
                if inner == 1
                for side in pb.integers(kind, dims)
            ]
        elif number == DATA:
            parts.append(pb.numbers(value, "<f4"))
        elif number == DOUBLE_DATA:
            parts.append(pb.numbers(value, "<f8"))
        elif number == RAW_TYPE:
            raw_type = pb.integers(wire, value)[0]
        elif number == RAW_DATA:
            raw = pb.nested(value)
        elif number in LEGACY_DIMENSIONS:
            legacy[number] = pb.integers(wire, value)[0]
    if raw:
        parts.append(pb.numbers(raw, RAW_TYPES.get(raw_type, "<f4")))
    if not shape and legacy:
        shape = [legacy.get(number, 1) for number in LEGACY_DIMENSIONS]
    with np.errstate(over="ignore"):  # what is not finite is refused with its name, later
        data = np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)
    return pb.shaped(data, shape or [len(data)])
