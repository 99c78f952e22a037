"""TFLite graphs of the TF Object Detection API's SSDs: raw heads, or with TFLite's own postprocessing behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import WeightsError
from singleshot.interop.fill import Imported
from singleshot.interop.tensorflow.spec import TFLITE_ANCHORS, TFLITE_INPUT, convert_arrays
from singleshot.interop.wire.flatbuffer import FlatTable, read_root
from singleshot.interop.wire.protobuf import WireError, shaped

Array = NDArray[np.generic]
Item = TypeVar("Item")

IDENTIFIER = b"TFL3"
# Field numbers of schema.fbs, by table.
MODEL_CODES, MODEL_GRAPHS, MODEL_BUFFERS = 1, 2, 4
CODE_OLD, CODE_CUSTOM, CODE = 0, 1, 3
GRAPH_TENSORS, GRAPH_INPUTS, GRAPH_OPERATORS = 0, 1, 3
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME, TENSOR_QUANTIZATION = 0, 1, 2, 3, 4
SCALES, ZERO_POINTS, QUANTIZED_AXIS = 2, 3, 6
OPERATOR_CODE, OPERATOR_INPUTS, OPERATOR_OUTPUTS, OPERATOR_OPTIONS = 0, 1, 2, 4
CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, SOFTMAX, CUSTOM = 3, 4, 6, 25, 32
PADDING, SAME = 0, 0
ACTIVATION = {CONV_2D: 3, DEPTHWISE_CONV_2D: 4}
NONE, RELU, RELU6 = 0, 1, 3
FLOAT32 = 0
DTYPES = {FLOAT32: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 9: "i1"}
POSTPROCESS = "TFLite_Detection_PostProcess"
LAST_NODES = ("Relu6", "Relu", "BiasAdd", "FusedBatchNormV3", "FusedBatchNorm", "BatchNorm", "Conv2D")
"""What the name of a layer's result may have behind the layer's own."""


class Operator(NamedTuple):
    """One operation.

    Attributes:
        code: of the builtin operation.
        custom: its name, where it is none of those.
        inputs, outputs: numbers of tensors; -1 is none.
        options: its settings.
    """

    code: int
    custom: str
    inputs: list[int]
    outputs: list[int]
    options: FlatTable | None


def read(path: str | Path) -> Imported:
    """Convert a TFLite SSD; its BatchNorms are folded into the convolutions.

    Args:
        path: the ``.tflite`` file; a ``pipeline.config`` beside it is taken into account.

    Raises:
        WeightsError: it is damaged, computes in 8 bits, or is another network.
    """
    path = Path(path)
    return convert_arrays(read_arrays(path), path, "tflite")


def read_arrays(path: Path) -> dict[str, Array]:
    """The numbers of all convolutions by TensorFlow's names, the input's shape, and stored default boxes.

    Raises:
        WeightsError: it is damaged, does not read floats, or its scores are softmaxes.
    """
    try:
        return _arrays(Graph(read_root(path, IDENTIFIER), path))
    except WireError as error:
        raise WeightsError(f"{path}: no TFLite graph, or damaged: {error}; get it again") from error


def _arrays(graph: Graph) -> dict[str, Array]:
    if any(operator.code == SOFTMAX for operator in graph.operators):
        raise WeightsError(f"{graph.origin}: its scores are softmaxes; supported are sigmoids")
    arrays: dict[str, Array] = {TFLITE_INPUT: graph.input_shape()}
    for operator in graph.operators:
        if operator.code in (CONV_2D, DEPTHWISE_CONV_2D):
            arrays |= _convolution(graph, operator)
        elif operator.custom == POSTPROCESS and len(operator.inputs) == 3:
            arrays[TFLITE_ANCHORS] = graph.constant(operator.inputs[2])
    return arrays


class Graph:
    """The first graph of a model.

    Args:
        model: the file's root.
        origin: the file, for messages.

    Attributes:
        operators: in the order in which they run.
    """

    def __init__(self, model: FlatTable, origin: Path) -> None:
        self.origin = origin
        graphs = model.tables(MODEL_GRAPHS)
        if not graphs:
            raise WireError("no graph in it")
        self.buffers = model.tables(MODEL_BUFFERS)
        self.tensors = graphs[0].tables(GRAPH_TENSORS)
        self.inputs = graphs[0].numbers(GRAPH_INPUTS, "<i4").tolist()
        codes = [
            (max(code.integer(CODE_OLD, "<b"), code.integer(CODE, "<i")), code.text(CODE_CUSTOM))
            for code in model.tables(MODEL_CODES)
        ]
        self.operators = list(_operators(graphs[0], codes))
        # Half floats are stored behind an operation that makes floats of them.
        self.stored = {one.outputs[0]: one.inputs[0] for one in self.operators if one.code == DEQUANTIZE}

    def input_shape(self) -> Array:
        """``[batch, height, width, 3]`` of the image.

        Raises:
            WeightsError: the graph does not read floats.
        """
        tensor = _at(self.tensors, self.inputs[0] if self.inputs else -1)
        if tensor.integer(TENSOR_TYPE, "<b") != FLOAT32:
            raise WeightsError(f"{self.origin}: it computes in 8 bits; supported are graphs that read floats")
        return tensor.numbers(TENSOR_SHAPE, "<i4")

    def name(self, index: int) -> str:
        """Of a tensor; what was fused is listed after semicolons, the last node first."""
        return _at(self.tensors, index).text(TENSOR_NAME).partition(";")[0]

    def constant(self, index: int) -> Array:
        """The numbers of a tensor, as float32 if they are of any float or quantised kind.

        Raises:
            WireError: it has none, or they do not fill its shape.
        """
        tensor = _at(self.tensors, self.stored.get(index, index))
        kind = tensor.integer(TENSOR_TYPE, "<b")
        if kind not in DTYPES:
            raise WireError(f"an array of the unknown type {kind}")
        data = _at(self.buffers, tensor.integer(TENSOR_BUFFER, "<I")).numbers(0, "u1")
        if len(data) % np.dtype(DTYPES[kind]).itemsize:
            raise WireError(f"{len(data)} bytes where {DTYPES[kind]} belong")
        value = shaped(data.view(DTYPES[kind]), tensor.numbers(TENSOR_SHAPE, "<i4").tolist())
        return _dequantized(value, tensor.table(TENSOR_QUANTIZATION))


def _operators(graph: FlatTable, codes: list[tuple[int, str]]) -> Iterator[Operator]:
    for table in graph.tables(GRAPH_OPERATORS):
        code, custom = _at(codes, table.integer(OPERATOR_CODE, "<I"))
        inputs, outputs = (table.numbers(field, "<i4").tolist() for field in (OPERATOR_INPUTS, OPERATOR_OUTPUTS))
        if not inputs or not outputs:
            raise WireError("an operation without input or output")
        yield Operator(code, custom if code == CUSTOM else "", inputs, outputs, table.table(OPERATOR_OPTIONS))


def _at(items: list[Item], index: int) -> Item:
    if not 0 <= index < len(items):
        raise WireError(f"number {index} of {len(items)}")
    return items[index]


def _dequantized(value: Array, quantization: FlatTable | None) -> Array:
    """Floats of 8-bit weights; anything else as float32."""
    with np.errstate(over="ignore"):  # what is not finite is refused with its name, later
        floats: NDArray[np.float32] = value.astype(np.float32)
    if quantization is None or value.dtype.kind not in "iu":
        return floats
    scales = quantization.numbers(SCALES, "<f4").astype(np.float32)
    if not len(scales):
        return floats
    zeros = quantization.numbers(ZERO_POINTS, "<i8")
    axis = quantization.integer(QUANTIZED_AXIS, "<i")
    sides = [1] * value.ndim
    if len(scales) > 1:
        if not 0 <= axis < value.ndim or len(scales) != value.shape[axis]:
            raise WireError(f"{len(scales)} scales for an array of the shape {value.shape}")
        sides[axis] = len(scales)
    if len(zeros) == len(scales):
        floats -= zeros.astype(np.float32).reshape(sides)
    with np.errstate(over="ignore", invalid="ignore"):
        floats *= scales.reshape(sides)
    return floats


def _convolution(graph: Graph, operator: Operator) -> dict[str, Array]:
    """A convolution's arrays as a frozen graph calls them, its kernel HWIO or HWC1."""
    layer = _layer(graph.name(operator.outputs[0]))
    if len(operator.inputs) != 3 or operator.options is None:
        raise WireError(f"'{layer}' has no bias or no settings")
    kernel, bias = (graph.constant(index) for index in operator.inputs[1:])
    if kernel.ndim != 4:
        raise WireError(f"'{layer}' has a kernel of {kernel.ndim} axes")
    kernel = kernel.transpose(1, 2, 3, 0)
    if kernel.shape[0] > 1 and operator.options.integer(PADDING, "<b") != SAME:
        raise WeightsError(f"{graph.origin}: '{layer}' does not pad as SAME, which is all that is supported")
    activation = operator.options.integer(ACTIVATION[operator.code], "<b")
    if activation not in ((NONE, RELU, RELU6) if "/MobilenetV3/" in layer else (NONE, RELU6)):
        raise WeightsError(f"{graph.origin}: '{layer}' does not end with ReLU6, as the networks that are supported do")
    if operator.code == DEPTHWISE_CONV_2D:
        return {f"{layer}/depthwise_weights": kernel, f"{layer}/BatchNorm/batchnorm/sub": bias}
    if layer.startswith("BoxPredictor_") or "/squeeze_excite/" in layer:
        return {f"{layer}/weights": kernel, f"{layer}/biases": bias}
    return {f"{layer}/Conv2D/merged_input": kernel, f"{layer}/BatchNorm/batchnorm/sub": bias}


def _layer(node: str) -> str:
    """The layer whose last node this is: ``Conv/Relu6`` and ``Conv/BatchNorm/FusedBatchNormV3`` are both ``Conv``."""
    parts = node.split("/")
    while len(parts) > 1 and parts[-1].rstrip("0123456789") in _STEMS:
        parts.pop()
    return "/".join(parts)


_STEMS = {node.rstrip("0123456789") for node in LAST_NODES}
