"""Caffe layers as ``GraphLayer``s, and which of their blobs become which of our parameters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from singleshot.errors import WeightsError
from singleshot.interop.caffe.caffemodel import Blobs
from singleshot.interop.caffe.net import Node
from singleshot.interop.fill import Part
from singleshot.interop.wire.prototxt import Message
from singleshot.models.config import GraphLayer

BATCH_NORM_EPS = 1e-5
PLAIN = {"ReLU6": "relu6", "PReLU": "prelu", "Sigmoid": "sigmoid", "TanH": "tanh", "Normalize": "l2_norm"}
CONVOLUTIONS = {
    "Convolution": "conv", "ConvolutionDepthwise": "conv", "DepthwiseConvolution": "conv", "Deconvolution": "deconv",
}  # fmt: skip
OWN_ATTRIBUTES = ("training", "outputs", "channels", "strides")
"""Of our graph module."""
JOINS = {"PROD": "product", "SUM": "sum", "MAX": "max", "0": "product", "1": "sum", "2": "max"}


class Piece(NamedTuple):
    """A part of the network that becomes one graph of ours.

    Attributes:
        layers: in order.
        parts: by our parameter name within the graph.
    """

    layers: tuple[GraphLayer, ...]
    parts: dict[str, Part]


class Translator:
    """Translates nodes in order; BatchNorm takes in the Scale that follows it.

    Args:
        blobs: trained numbers by layer name.
        origin: the file, for messages.
        inputs: nodes that the graph reads as its input.
    """

    def __init__(self, blobs: Mapping[str, Blobs], origin: str, inputs: Iterable[Node]) -> None:
        self.blobs = blobs
        self.origin = origin
        self.names: dict[int, str] = {id(node): "" for node in inputs}
        self.layers: list[GraphLayer] = []
        self.parts: dict[str, Part] = {}

    def translate(self, nodes: Iterable[Node]) -> Piece:
        """Translate nodes, each after those that it reads.

        Raises:
            WeightsError: a layer is of a kind that is not known, or its numbers are missing.
        """
        chain = list(nodes)
        readers = Counter(id(node) for reader in chain for node in reader.inputs)
        for node in chain:
            before = node.inputs[0] if node.inputs else node
            if node.type == "Scale" and self._joins_batch_norm(node, before, readers):
                self._join_scale(node, before)
            else:
                self._add(node)
        return Piece(tuple(self.layers), self.parts)

    def name_of(self, node: Node) -> str:
        """Our name of what a translated node gives."""
        return self.names[id(node)]

    def _joins_batch_norm(self, node: Node, before: Node, readers: Counter[int]) -> bool:
        is_last = bool(self.layers) and self.layers[-1].name == self.names.get(id(before))
        return before.type == "BatchNorm" and len(node.inputs) == 1 and readers[id(before)] == 1 and is_last

    def _join_scale(self, node: Node, norm: Node) -> None:
        self.names[id(node)] = name = self.name_of(norm)
        self._keep_both(name, node, node.message.message("scale_param").flag("bias_term", False))

    def _add(self, node: Node) -> None:
        name = _module_name(node.name, {layer.name for layer in self.layers})
        inputs = tuple(self.names[id(other)] for other in node.inputs)
        if node.type in CONVOLUTIONS:
            layer = _convolution(node, name, inputs, CONVOLUTIONS[node.type])
            self._keep_both(name, node, layer.bias)
        elif node.type == "BatchNorm":
            layer = _batch_norm(node, name, inputs)
            self._keep_statistics(name, node)
        elif node.type == "Scale" and len(inputs) == 1:
            has_bias = node.message.message("scale_param").flag("bias_term", False)
            layer = GraphLayer(name=name, kind="scale", inputs=inputs, bias=has_bias)
            self._keep_both(name, node, has_bias)
        elif node.type in PLAIN:
            layer = GraphLayer(name=name, kind=_kind(PLAIN[node.type]), inputs=inputs)
            self._keep_plain(name, node)
        elif node.type in _SIMPLE:
            layer = _SIMPLE[node.type](node.message, name, inputs)
        else:
            raise WeightsError(
                f"{self.origin}: layer '{node.name}' is of type '{node.type}', which the importer does not know"
            )
        self.layers.append(layer)
        self.names[id(node)] = name

    def _keep(self, parameter: str, node: Node, index: int) -> NDArray[np.float32]:
        blobs = self.blobs.get(node.name, [])
        if len(blobs) <= index:
            raise WeightsError(
                f"{self.origin}: layer '{node.name}' has {len(blobs)} blobs of numbers, needed {index + 1}: "
                "the .caffemodel belongs to another .prototxt"
            )
        self.parts[parameter] = Part(blobs[index], node.name, is_shared=True)
        return blobs[index]

    def _keep_both(self, name: str, node: Node, has_bias: bool) -> None:
        self._keep(f"{name}.weight", node, 0)
        if has_bias:
            self._keep(f"{name}.bias", node, 1)

    def _keep_statistics(self, name: str, node: Node) -> None:
        """Mean and variance are stored times a factor; a factor of 0 means that there are none."""
        mean, variance, factor = (self._keep(name, node, index) for index in range(3))
        del self.parts[name]
        scale = np.float32(1 / factor.item() if factor.size == 1 and factor.item() else 0)
        ones = np.ones_like(mean)
        values = {"running_mean": mean * scale, "running_var": variance * scale, "weight": ones, "bias": 0 * ones}
        for parameter, value in values.items():
            self.parts[f"{name}.{parameter}"] = Part(value, node.name, is_shared=True)

    def _keep_plain(self, name: str, node: Node) -> None:
        if node.type == "Normalize":
            if node.message.message("norm_param").flag("across_spatial", True):
                raise WeightsError(
                    f"{self.origin}: layer '{node.name}' normalises across space; only channels are known"
                )
            self._keep(f"{name}.scale", node, 0)
        elif node.type == "PReLU":
            self._keep(f"{name}.weight", node, 0)


def _kind(name: str) -> Any:
    return name


def _module_name(name: str, taken: set[str]) -> str:
    """A layer's name as torch takes it: no dots, nothing that every module has."""
    clean = re.sub(r"\W", "_", name) or "layer"
    while clean in taken or hasattr(nn.Module, clean) or clean in OWN_ATTRIBUTES:
        clean += "_"
    return clean


def _pair(message: Message, name: str, default: int) -> tuple[int, int]:
    """(vertical, horizontal) of a setting that is given once, twice, or as ``_h`` and ``_w``."""
    stem = name.removesuffix("_size")
    if f"{stem}_h" in message or f"{stem}_w" in message:
        return message.integer(f"{stem}_h", default), message.integer(f"{stem}_w", default)
    values = message.integers(name) or [default]
    return values[0], values[-1]


def _convolution(node: Node, name: str, inputs: tuple[str, ...], kind: str) -> GraphLayer:
    settings = node.message.message("convolution_param")
    channels = settings.integer("num_output", 0)
    is_depthwise = "Depthwise" in node.type and "group" not in settings
    return GraphLayer(
        name=name,
        kind=_kind(kind),
        inputs=inputs,
        channels=channels,
        kernel_hw=_pair(settings, "kernel_size", 1),
        stride_hw=_pair(settings, "stride", 1),
        padding_hw=_pair(settings, "pad", 0),
        dilation_hw=_pair(settings, "dilation", 1),
        groups=max(channels, 1) if is_depthwise else settings.integer("group", 1),
        bias=settings.flag("bias_term", True),
    )


def _batch_norm(node: Node, name: str, inputs: tuple[str, ...]) -> GraphLayer:
    eps = node.message.message("batch_norm_param").number("eps", BATCH_NORM_EPS)
    return GraphLayer(name=name, kind="batch_norm", inputs=inputs, eps=eps)


def _pool(message: Message, name: str, inputs: tuple[str, ...]) -> GraphLayer:
    settings = message.message("pooling_param")
    method = settings.text("pool", "MAX")
    kind = "max_pool" if method in ("MAX", "0") else "avg_pool"
    if settings.flag("global_pooling", False):
        return GraphLayer(name=name, kind=_kind(f"global_{kind}"), inputs=inputs)
    is_floor = settings.text("round_mode") in ("FLOOR", "1") or not settings.flag("ceil_mode", True)
    return GraphLayer(
        name=name,
        kind=_kind(kind),
        inputs=inputs,
        kernel_hw=_pair(settings, "kernel_size", 1),
        stride_hw=_pair(settings, "stride", 1),
        padding_hw=_pair(settings, "pad", 0),
        ceil=not is_floor,
    )


def _relu(message: Message, name: str, inputs: tuple[str, ...]) -> GraphLayer:
    slope = message.message("relu_param").number("negative_slope", 0.0)
    return GraphLayer(name=name, kind="relu", inputs=inputs, values=(slope,) if slope else ())


def _elu(message: Message, name: str, inputs: tuple[str, ...]) -> GraphLayer:
    alpha = message.message("elu_param").number("alpha", 1.0)
    return GraphLayer(name=name, kind="elu", inputs=inputs, values=(alpha,))


def _power(message: Message, name: str, inputs: tuple[str, ...]) -> GraphLayer:
    settings = message.message("power_param")
    values = tuple(settings.number(key, default) for key, default in (("power", 1.0), ("scale", 1.0), ("shift", 0.0)))
    return GraphLayer(name=name, kind="power", inputs=inputs, values=values)


def _eltwise(message: Message, name: str, inputs: tuple[str, ...]) -> GraphLayer:
    settings = message.message("eltwise_param")
    kind = JOINS.get(settings.text("operation", "SUM"), "sum")
    return GraphLayer(name=name, kind=_kind(kind), inputs=inputs, values=tuple(settings.numbers("coeff")))


def _concat(message: Message, name: str, inputs: tuple[str, ...]) -> GraphLayer:
    settings = message.message("concat_param")
    axis = settings.number("axis", settings.number("concat_dim", 1))
    if axis not in (1, -3):
        raise WeightsError(
            f"layer '{name}' concatenates along axis {axis:g}; within a network only channels (1) are known"
        )
    return GraphLayer(name=name, kind="concat", inputs=inputs)


_SIMPLE: dict[str, Callable[[Message, str, tuple[str, ...]], GraphLayer]] = {
    "Pooling": _pool,
    "ReLU": _relu,
    "ELU": _elu,
    "Power": _power,
    "Eltwise": _eltwise,
    "Concat": _concat,
}
