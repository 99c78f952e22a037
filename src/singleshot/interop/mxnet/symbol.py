"""What an MXNet ``-symbol.json`` says about an SSD: maps, boxes, appended blocks, detection."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from singleshot.errors import WeightsError

MAX_FILE_BYTES = 64 * 1024**2
MAX_ATTRIBUTE = 1000
BLOCK = re.compile(r"multi_feat_(\d+)_conv_3x3_conv|(\d+)_conv2")
"""The strided convolution of an appended block: plain, or mxnet-dssd's residual one."""
LOCATION = "_loc_pred_conv"

_DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    SyntaxError,
    MemoryError,
)


class AppendedBlock(NamedTuple):
    """An appended block: its place among the sources, and its strided convolution."""

    number: int
    channels: int
    kernel: int
    stride: int
    pad: int


class Symbol(NamedTuple):
    """The parts of a network's description that decide how its numbers are used.

    Attributes:
        sizes, ratios, steps: of each MultiBoxPrior in order; steps are (y, x), negative for the map's own.
        clip: of the first MultiBoxPrior.
        heads: what the location predictors are named after, in order.
        blocks: appended to the backbone.
        detection: settings of MultiBoxDetection as text; empty in a network for training.
        input_hw: height and width of the input, where it is written down.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[tuple[float, ...], ...]
    steps: tuple[tuple[float, ...], ...]
    clip: bool
    heads: tuple[str, ...]
    blocks: tuple[AppendedBlock, ...]
    detection: Mapping[str, str]
    input_hw: tuple[int, int] | None = None


def read_symbol(path: Path, rename: Callable[[str], str] = str) -> Symbol:
    """Read a description.

    Args:
        path: the file.
        rename: applied to the name of every node.

    Raises:
        WeightsError: it is damaged, absurdly large, or of no SSD.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise WeightsError(f"{path}: larger than {MAX_FILE_BYTES} bytes; a description of a network is not")
    try:
        nodes = [
            (str(node["op"]), rename(str(node["name"])), _attributes(node))
            for node in json.loads(path.read_bytes())["nodes"]
        ]
        return _symbol(nodes)
    except _DAMAGE as error:
        raise WeightsError(f"{path}: no MXNet symbol of an SSD, or damaged ({error!r})") from error


def _symbol(nodes: list[tuple[str, str, dict[str, str]]]) -> Symbol:
    priors = [attributes for op, _, attributes in nodes if op.endswith("MultiBoxPrior")]
    if not priors:
        raise ValueError("no MultiBoxPrior in it")
    found = [attributes for op, _, attributes in nodes if op.endswith("MultiBoxDetection")]
    blocks = [
        _block(name, attributes) for op, name, attributes in nodes if op == "Convolution" and BLOCK.fullmatch(name)
    ]
    heads = [name for op, name, _ in nodes if op == "Convolution" and name.endswith(LOCATION)]
    return Symbol(
        tuple(_numbers(prior.get("sizes", "(1,)")) for prior in priors),
        tuple(_numbers(prior.get("ratios", "(1,)")) for prior in priors),
        tuple(_numbers(prior.get("steps", "(-1,-1)")) for prior in priors),
        priors[0].get("clip", "False") in ("True", "1"),
        tuple(name.removesuffix(LOCATION) for name in heads),
        tuple(sorted(blocks)),
        found[-1] if found else {},
        next(filter(None, (_input_hw(attributes) for _, name, attributes in nodes if name == "data")), None),
    )


def _input_hw(attributes: Mapping[str, str]) -> tuple[int, int] | None:
    shape = attributes.get("__shape__")
    sides = [int(number) for number in _numbers(shape)] if shape else []
    return (sides[2], sides[3]) if len(sides) == 4 and min(sides[2:]) > 0 else None


def _attributes(node: Mapping[str, Any]) -> dict[str, str]:
    """MXNet has called them ``param``, ``attr`` and ``attrs``."""
    merged: dict[str, str] = {}
    for key in ("param", "attr", "attrs"):
        merged |= {str(name): str(value)[:MAX_ATTRIBUTE] for name, value in node.get(key, {}).items()}
    return merged


def _block(name: str, attributes: Mapping[str, str]) -> AppendedBlock:
    match = BLOCK.fullmatch(name)
    if match is None:
        raise ValueError(f"'{name[:40]}' is no appended block")
    kernel, stride, pad = (
        int(_numbers(attributes.get(key, default))[0])
        for key, default in (("kernel", "(3,3)"), ("stride", "(1,1)"), ("pad", "(0,0)"))
    )
    return AppendedBlock(int(match[1] or match[2]), int(attributes["num_filter"]), kernel, stride, pad)


def _numbers(text: str) -> tuple[float, ...]:
    """``(0.1, 0.141)``, ``[1,2]`` or ``0.5``, which MXNet also writes as ``(0.1,)``."""
    value = ast.literal_eval(text.strip().replace("L", ""))
    numbers = tuple(float(number) for number in (value if isinstance(value, (tuple, list)) else (value,)))
    if not all(math.isfinite(number) for number in numbers) or not numbers:
        raise ValueError(f"'{text[:40]}' is no list of numbers")
    return numbers
