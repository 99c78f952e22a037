"""Writes what MXNet writes: ``.params`` files and the parts of a symbol that an SSD has."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from golden_rules import family_weight
from singleshot.models.zoo.assembled import AssembledConfig

CODES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
V1, V2 = 0xF993FAC8, 0xF993FAC9


def params_bytes(arrays: Mapping[str, np.ndarray], version: int = V2) -> bytes:
    """A list of arrays; ``version`` 0 is the form without a magic number."""
    out = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        out.append(b"" if version == 0 else struct.pack("<I", version))
        out.append(struct.pack("<i", 0) if version == V2 else b"")
        out.append(struct.pack("<i", array.ndim))
        out.append(struct.pack(f"<{array.ndim}{'q' if version else 'I'}", *array.shape))
        out.append(struct.pack("<iii", 1, 0, CODES[str(array.dtype)]))
        out.append(array.tobytes())
    out.append(struct.pack("<Q", len(arrays)))
    out += [struct.pack("<Q", len(name)) + name.encode() for name in arrays]
    return b"".join(out)


def golden_params(reference: Path, name: str, gain: float) -> dict[str, np.ndarray]:
    """All parameters of a golden network by its rule, named as in a checkpoint."""
    listed = json.loads((reference / "spec/state_dicts" / f"{name}.json").read_text())
    return {
        f"{kind}:{key}": family_weight(key, tuple(shape), gain)
        for kind, group in (("arg", "args"), ("aux", "aux"))
        for key, shape in listed[group].items()
    }


def symbol_json(config: AssembledConfig, heads: tuple[str, ...], detection: Mapping[str, Any] | None = None) -> str:
    """The nodes of a symbol that say how an assembled detector is put together."""
    nodes: list[dict[str, Any]] = [{"op": "null", "name": "data", "inputs": []}]
    first = len(config.taps)
    for level in range(first, len(config.from_layers)):
        attrs = {
            "num_filter": str(config.num_filters[level]),
            "kernel": "(3, 3)",
            "stride": f"({config.strides[level]}, {config.strides[level]})",
            "pad": f"({config.pads[level]}, {config.pads[level]})",
        }
        nodes.append({"op": "Convolution", "name": f"multi_feat_{level}_conv_3x3_conv", "attrs": attrs, "inputs": []})
    for level, head in enumerate(heads):
        nodes.append({"op": "Convolution", "name": f"{head}_loc_pred_conv", "attrs": {}, "inputs": []})
        step = config.steps[level] if config.steps else -1.0
        attrs = {
            "sizes": str(tuple(config.level_sizes[level])),
            "ratios": str(tuple(config.level_ratios[level])),
            "steps": f"({step}, {step})",
            "clip": str(config.clip),
        }
        nodes.append({"op": "_contrib_MultiBoxPrior", "name": f"{head}_anchors", "attrs": attrs, "inputs": []})
    settings = {"nms_threshold": "0.45", "force_suppress": "False", "nms_topk": "400", **(detection or {})}
    nodes.append({"op": "_contrib_MultiBoxDetection", "name": "detection", "attrs": settings, "inputs": []})
    return json.dumps({"nodes": nodes, "arg_nodes": [0], "heads": [[len(nodes) - 1, 0, 0]]})
