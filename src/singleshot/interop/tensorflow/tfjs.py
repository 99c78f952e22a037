"""TensorFlow.js graph models of the TF Object Detection API (a folder with ``model.json`` and its shards)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from singleshot.core.files import is_regular
from singleshot.errors import WeightsError
from singleshot.interop.fill import Imported
from singleshot.interop.tensorflow.spec import convert_arrays

MAX_JSON_BYTES = 64 * 1024 * 1024
MAX_WEIGHT_BYTES = 1024**3
MAX_ENTRIES = 20_000
MAX_DIMENSIONS = 8
DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "u1", "uint8": "u1"}
QUANTIZED = {"uint8": "u1", "uint16": "<u2", "float16": "<f2"}


def read(path: str | Path) -> Imported:
    """Convert a TensorFlow.js SSD.

    The graph's conventions are kept: box codes in the order (y, x, h, w), logits with the background in column 0 and
    column = COCO category id, sigmoid scores, TensorFlow 1's bilinear resize.

    Args:
        path: the folder, or its ``model.json``.

    Raises:
        WeightsError: a file is missing, damaged, absurdly large, or another network.
    """
    path = Path(path)
    file = path / "model.json" if path.is_dir() else path
    return convert_arrays(read_arrays(file), file, "tfjs")


def read_arrays(model_json: Path) -> dict[str, np.ndarray]:
    """All arrays of a graph model by name; quantised ones as float32.

    Raises:
        WeightsError: a file is missing, damaged or absurdly large.
    """
    manifest = _read_manifest(model_json)
    arrays: dict[str, np.ndarray] = {}
    try:
        for group in manifest:
            buffer = _read_shards(model_json, group["paths"])
            offset = 0
            for entry in group["weights"]:
                array, offset = _read_entry(buffer, offset, entry, model_json)
                arrays[entry["name"]] = array
            if offset != len(buffer):
                raise WeightsError(
                    f"{model_json}: the manifest describes {offset} bytes, the shards hold {len(buffer)}: "
                    "a shard is damaged or of another model"
                )
    except WeightsError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{model_json}: a damaged weights manifest ({error!r})") from error
    return arrays


def _read_manifest(model_json: Path) -> list[dict[str, Any]]:
    try:
        if model_json.stat().st_size > MAX_JSON_BYTES:
            raise WeightsError(f"{model_json}: larger than {MAX_JSON_BYTES} bytes; not a graph model")
        manifest = json.loads(model_json.read_bytes())["weightsManifest"]
        if not isinstance(manifest, list) or sum(len(group["weights"]) for group in manifest) > MAX_ENTRIES:
            raise TypeError("absurd weightsManifest")
    except FileNotFoundError:
        raise WeightsError(f"{model_json}: no such file; a graph model is a folder with a model.json") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{model_json}: not a TensorFlow.js graph model, or damaged ({error!r})") from error
    return manifest


def _read_shards(model_json: Path, names: list[str]) -> bytes:
    """All shards of a group, one after the other; only plain file names beside ``model.json`` are read."""
    parts, total = [], 0
    for name in names:
        shard = model_json.parent / str(name)
        if Path(str(name)).name != name:
            raise WeightsError(f"{model_json}: shard '{name}' is not a plain file name")
        if not is_regular(shard):
            raise WeightsError(f"{shard}: a shard of {model_json.name} is missing")
        total += shard.stat().st_size
        if total > MAX_WEIGHT_BYTES:
            raise WeightsError(f"{model_json}: more than {MAX_WEIGHT_BYTES} bytes of weights")
        parts.append(shard.read_bytes())
    return b"".join(parts)


def _read_entry(buffer: bytes, offset: int, entry: dict[str, Any], origin: Path) -> tuple[np.ndarray, int]:
    """One array of the buffer, and the offset behind it."""
    name, shape, quantization = entry["name"], entry["shape"], entry.get("quantization")
    kinds, kind = (QUANTIZED, quantization["dtype"]) if quantization else (DTYPES, entry["dtype"])
    if kind not in kinds:
        raise WeightsError(f"{origin}: '{name}' has the unknown type '{kind}'")
    sides = shape if isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS else [-1]
    if not all(type(side) is int and 0 <= side < 2**63 for side in sides):
        what = shape[:MAX_DIMENSIONS] if isinstance(shape, list) else type(shape).__name__
        raise WeightsError(f"{origin}: '{name}' has the impossible shape {what}")
    dtype, count = np.dtype(kinds[kind]), math.prod(shape)
    end = offset + count * dtype.itemsize
    if end > len(buffer):
        raise WeightsError(f"{origin}: '{name}' ends at byte {end} of {len(buffer)}: a shard is truncated")
    array = np.frombuffer(buffer, dtype, count, offset).reshape(shape)
    if quantization:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused with its name, later
            scale, least = (np.float32(quantization.get(*key)) for key in (("scale", 1), ("min", 0)))
            array = array.astype(np.float32) * scale + least
    return array, end
