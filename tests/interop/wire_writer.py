"""Writes protocol buffers on the wire: what Caffe and TensorFlow write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def varint(number: int) -> bytes:
    out = bytearray()
    number &= 0xFFFF_FFFF_FFFF_FFFF
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, form: str = "packed") -> bytes:
    """A BlobProto; ``form`` is how its numbers are stored."""
    dims = b"".join(field(1, side) for side in array.shape)
    if form == "legacy":
        sides = [1] * (4 - array.ndim) + list(array.shape)
        return b"".join(field(1 + k, side) for k, side in enumerate(sides)) + field(5, array.astype("<f4").tobytes())
    if form == "half":
        return field(7, dims) + field(10, 2) + field(12, array.astype("<f2").tobytes())
    if form == "double":
        return field(7, dims) + field(8, array.astype("<f8").tobytes())
    if form == "unpacked":
        numbers = array.astype("<f4").ravel()
        return field(7, dims) + b"".join(varint(5 << 3 | 5) + number.tobytes() for number in numbers)
    return field(7, field(1, b"".join(varint(side) for side in array.shape))) + field(5, array.astype("<f4").tobytes())


def caffemodel(layers: Mapping[str, Sequence[np.ndarray]], form: str = "packed", *, old: bool = False) -> bytes:
    """A NetParameter; ``old`` writes the layers of before 2014."""
    name, blobs, layer = (4, 6, 2) if old else (1, 7, 100)
    out = [field(1, "test net")]
    for key, arrays in layers.items():
        out.append(field(layer, field(name, key) + b"".join(field(blobs, blob(array, form)) for array in arrays)))
    return b"".join(out)


def graphdef(constants: Mapping[str, np.ndarray], inputs: Mapping[str, Sequence[int]] | None = None) -> bytes:
    """A frozen graph of constants, each with an Identity that reads it, and of inputs of these shapes."""
    out = []
    for name, sides in (inputs or {}).items():
        shape = field(7, b"".join(field(2, field(1, side)) for side in sides))
        attribute = field(5, field(1, "shape") + field(2, shape))
        out.append(field(1, field(1, name) + field(2, "Placeholder") + attribute))
    for name, array in constants.items():
        shape = b"".join(field(2, field(1, side)) for side in array.shape)
        kind, form = (3, "<i4") if array.dtype.kind == "i" else (1, "<f4")
        tensor = field(1, kind) + field(2, shape) + field(4, array.astype(form).tobytes())
        dtype = field(5, field(1, "dtype") + field(2, field(6, kind)))
        value = field(5, field(1, "value") + field(2, field(8, tensor)))
        out.append(field(1, field(1, name) + field(2, "Const") + dtype + value))
        out.append(field(1, field(1, f"{name}/read") + field(2, "Identity") + field(3, name)))
    return b"".join(out)
