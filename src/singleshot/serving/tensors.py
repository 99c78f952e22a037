"""Tensors of the KServe V2 protocol, as JSON or as bytes. No size is believed before it was compared with what came."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.core.postprocess import PaddedArrays, PaddedDetections
from singleshot.errors import ConfigError
from singleshot.prediction.detections import Detections

Picture = NDArray[np.uint8] | bytes
"""RGB pixels ``[H, W, 3]``, or an image file that is not decoded yet."""

OUTPUTS = {"boxes": "FP32", "scores": "FP32", "labels": "INT64", "counts": "INT64"}
_LENGTH_BYTES = 4


def read_shape(value: Any, name: str) -> tuple[int, ...]:
    """The shape of an input.

    Raises:
        ConfigError: it is no list of a few whole numbers.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= 4 or not all(type(side) is int for side in value):
        raise ConfigError(f"input '{name}': `shape` is a list of 1 to 4 whole numbers")
    if not all(0 <= side < 2**31 for side in value):
        raise ConfigError(f"input '{name}': `shape` {value} has a side that is negative or too large")
    return tuple(value)


def read_pixels(shape: Sequence[int], data: Any, raw: memoryview | None) -> list[NDArray[np.uint8]]:
    """Pictures of one size, from a UINT8 tensor.

    Args:
        shape: ``[N, H, W, 3]``.
        data: values 0..255 of a JSON request, flat or nested as the shape is.
        raw: bytes of a binary tensor, in place of ``data``; not copied.

    Raises:
        ConfigError: another shape, or other values than it wants.
    """
    if len(shape) != 4 or shape[3] != 3 or not shape[1] * shape[2]:
        raise ConfigError(f"input 'image': the shape is [N, height, width, 3], not {list(shape)}")
    wanted = math.prod(shape)
    values = memoryview(_bytes_of(data, shape)) if raw is None else raw
    if len(values) != wanted:
        raise ConfigError(f"input 'image': the shape {list(shape)} wants {wanted:,} values, not {len(values):,}")
    return list(np.frombuffer(values, dtype=np.uint8).reshape(shape))


def _bytes_of(data: Any, shape: Sequence[int]) -> bytes:
    """JSON values 0..255, flat or nested, as bytes."""
    if not isinstance(data, list):
        raise ConfigError("input 'image': `data` is a list of values 0..255")
    level = data
    if level and isinstance(level[0], list):
        for side in shape[1:]:
            if set(map(type, level)) - {list} or set(map(len, level)) - {side}:
                raise ConfigError(f"input 'image': `data` is not nested as its shape {list(shape)}")
            level = list(chain.from_iterable(level))
    if set(map(type, level)) - {int}:
        raise ConfigError("input 'image': `data` holds something else than whole numbers")
    try:
        return bytes(level)
    except (ValueError, OverflowError):
        raise ConfigError("input 'image': `data` holds values outside 0..255") from None


def read_files(shape: Sequence[int], data: Any, raw: memoryview | None) -> list[bytes]:
    """Image files, from a BYTES tensor.

    Args:
        shape: ``[N]`` or ``[N, 1]``.
        data: base64 texts of a JSON request.
        raw: of a binary tensor: before each file its length, 4 bytes, little-endian.

    Raises:
        ConfigError: another shape, or not as many files as it wants.
    """
    if len(shape) > 2 or shape[1:] not in ((), (1,)):
        raise ConfigError(f"input 'file': the shape is [N], not {list(shape)}")
    return _decoded(data, shape[0]) if raw is None else _split(raw, shape[0])


def _decoded(data: Any, count: int) -> list[bytes]:
    is_nested = isinstance(data, list) and all(isinstance(row, list) and len(row) == 1 for row in data)
    texts = list(chain.from_iterable(data)) if is_nested else data
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError("input 'file': `data` is a list of image files in base64")
    _check_count(len(texts), count)
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError):
        raise ConfigError("input 'file': `data` is not base64: or send the files as a binary tensor") from None


def _split(raw: memoryview, count: int) -> list[bytes]:
    files: list[bytes] = []
    at = 0
    while at < len(raw) and len(files) < count:
        begin = at + _LENGTH_BYTES
        if begin > len(raw):
            raise ConfigError("input 'file': the tensor ends within a length")
        (length,) = struct.unpack_from("<I", raw, at)
        at = begin + length
        if at > len(raw):
            raise ConfigError(f"input 'file': a file of {length:,} bytes is cut off after {len(raw) - begin:,}")
        files.append(bytes(raw[begin:at]))
    _check_count(len(files), count)
    if at < len(raw):
        raise ConfigError(f"input 'file': {len(raw) - at:,} bytes follow the last of {count:,} files")
    return files


def _check_count(have: int, wanted: int) -> None:
    if have != wanted:
        raise ConfigError(f"input 'file': the shape wants {wanted:,} files, not {have:,}")


def padded(found: Sequence[Detections]) -> PaddedArrays:
    """Detections of several pictures as arrays of one size.

    Args:
        found: of each picture, in its pixels.

    Returns:
        ``[N, K, 4]``, ``[N, K]``, ``[N, K]``, ``[N]``, where the fullest picture has ``K``; boxes in pixels of the
        pictures.
    """
    counts = np.array([len(own) for own in found], dtype=np.int64)
    most = int(counts.max(initial=0))
    boxes = np.zeros((len(found), most, 4), dtype=np.float32)
    scores = np.zeros((len(found), most), dtype=np.float32)
    labels = np.full((len(found), most), -1, dtype=np.int64)
    for row, own in enumerate(found):
        boxes[row, : len(own)] = own.boxes_xyxy
        scores[row, : len(own)] = own.scores
        labels[row, : len(own)] = own.class_ids
    return PaddedDetections(boxes, scores, labels, counts)


def named(found: PaddedArrays) -> Mapping[str, NDArray[Any]]:
    """The arrays by the names in `OUTPUTS`."""
    return dict(zip(OUTPUTS, found, strict=True))
