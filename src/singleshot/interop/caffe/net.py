"""A Caffe network as a graph: every layer reads the version of a blob that is current when its turn comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from singleshot.errors import WeightsError
from singleshot.interop.wire.prototxt import Message, read_prototxt

V1_TYPES = {
    "CONVOLUTION": "Convolution", "DECONVOLUTION": "Deconvolution", "POOLING": "Pooling", "RELU": "ReLU",
    "PRELU": "PReLU", "SIGMOID": "Sigmoid", "TANH": "TanH", "ELTWISE": "Eltwise", "CONCAT": "Concat",
    "SOFTMAX": "Softmax", "FLATTEN": "Flatten", "DROPOUT": "Dropout", "SPLIT": "Split", "POWER": "Power",
    "SILENCE": "Silence", "SOFTMAX_LOSS": "SoftmaxWithLoss", "DATA": "Data", "IMAGE_DATA": "ImageData",
}  # fmt: skip
"""Layer types of networks of before 2014."""

DATA_TYPES = frozenset({"Input", "Data", "AnnotatedData", "ImageData", "VideoData", "HDF5Data", "DummyData"})
PASSING = frozenset({"Dropout", "Split"})
"""Layers that give what they read when they do not train."""


@dataclass(frozen=True, slots=True)
class Node:
    """One layer, and the nodes whose outputs it reads.

    Attributes:
        name: of the layer; unique.
        type: Caffe's.
        message: its parameters.
        inputs: in the order of its bottoms.
    """

    name: str
    type: str
    message: Message
    inputs: tuple[Node, ...] = ()


@dataclass(slots=True)
class Net:
    """A network.

    Attributes:
        nodes: in the order of computation; the first is the image.
        size_hw: of the image.
        channels: of the image.
        transform: how a data layer prepares it, where there is one.
    """

    nodes: list[Node]
    size_hw: tuple[int, int]
    channels: int
    transform: Message = field(default_factory=Message)

    @property
    def image(self) -> Node:
        """What the first layers read."""
        return self.nodes[0]

    def of_type(self, kind: str) -> list[Node]:
        """All layers of a type."""
        return [node for node in self.nodes if node.type == kind]


def read_net(path: Path) -> Net:
    """Read a network for testing from its description.

    Raises:
        WeightsError: the text is not well-formed, or a layer reads what no layer gives.
    """
    root = read_prototxt(path)
    layers = [layer for layer in (root.messages("layer") or root.messages("layers")) if _runs_in_test(layer)]
    if not layers:
        raise WeightsError(f"{path}: no layers; a Caffe network is described as 'layer {{ ... }}'")
    channels, size_hw = _input_size(root, layers, path)
    image = Node("data", "Input", Message())
    net = Net([image], size_hw, channels)
    blobs = dict.fromkeys(root.texts("input"), image)
    for number, layer in enumerate(layers):
        kind = V1_TYPES.get(layer.text("type"), layer.text("type"))
        tops = layer.texts("top")
        if kind in DATA_TYPES:
            # The first blob of a data layer is the image; labels follow.
            blobs |= dict.fromkeys(tops[:1], image)
            net.transform = layer.message("transform_param")
            continue
        node = Node(layer.text("name", f"layer{number}"), kind, layer, tuple(_inputs(layer, blobs, path)))
        if kind in PASSING:
            blobs |= dict.fromkeys(tops, node.inputs[0])
            continue
        net.nodes.append(node)
        blobs |= dict.fromkeys(tops, node)
    return net


def _inputs(layer: Message, blobs: dict[str, Node], path: Path) -> Iterator[Node]:
    for bottom in layer.texts("bottom"):
        if bottom not in blobs:
            raise WeightsError(f"{path}: layer '{layer.text('name')}' reads '{bottom}', which no layer before it gives")
        yield blobs[bottom]


def _runs_in_test(layer: Message) -> bool:
    phases = [phase for include in layer.messages("include") for phase in include.texts("phase")]
    excluded = [phase for exclude in layer.messages("exclude") for phase in exclude.texts("phase")]
    return (not phases or "TEST" in phases or "1" in phases) and "TEST" not in excluded


def _input_size(root: Message, layers: Iterable[Message], path: Path) -> tuple[int, tuple[int, int]]:
    """Channels and (height, width) of the image, however the file says them."""
    candidates = [[*root.numbers("input_dim")]]
    candidates += [shape.numbers("dim") for shape in root.messages("input_shape")]
    for layer in layers:
        candidates += [shape.numbers("dim") for shape in layer.message("input_param").messages("shape")]
    for dims in candidates:
        if len(dims) >= 4 and all(1 <= side <= 10_000 for side in dims[1:4]):
            return int(dims[1]), (int(dims[2]), int(dims[3]))
    for layer in layers:
        resize = layer.message("transform_param").message("resize_param")
        if "height" in resize and "width" in resize:
            return 3, (resize.integer("height", 0), resize.integer("width", 0))
    raise WeightsError(f"{path}: it does not say the size of its input (input_shape, input_dim or an Input layer)")
