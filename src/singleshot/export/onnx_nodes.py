"""A part of an ONNX graph, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from singleshot.core.lazy import lazy_module

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy_module("onnx")

OPSET = 17
IR_VERSION = 8
"""What that opset came with: every runtime of the last years reads it."""


class Nodes:
    """Nodes and constants under names that no other part has.

    Args:
        prefix: of the names.

    Attributes:
        nodes: so far, in the order of computation.
        constants: so far.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, kind: str, *inputs: str | ArrayLike, name: str = "", **attributes: Any) -> str:
        """Add a node of one output; what is no name is a constant. Returns the output's name."""
        return self.ops(kind, *inputs, outputs=1, names=[name] if name else (), **attributes)[0]

    def ops(
        self, kind: str, *inputs: str | ArrayLike, outputs: int, names: Sequence[str] = (), **attributes: Any
    ) -> list[str]:
        """Add a node of several outputs; returns their names."""
        count = len(self.nodes)
        given = list(names) or [f"{self.prefix}/{kind}_{count}" + (f":{k}" if k else "") for k in range(outputs)]
        read = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        self.nodes.append(onnx.helper.make_node(kind, read, given, f"{self.prefix}/{kind}_{count}", **attributes))
        return given

    def constant(self, value: ArrayLike, name: str = "") -> str:
        """A constant's name; equal ones are kept once. Numbers of Python become float32 or int64."""
        array = np.asarray(value)
        if not hasattr(value, "dtype"):
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        key = (array.dtype.str, array.shape, array.tobytes())
        if name or key not in self._known:
            known = name or f"{self.prefix}/constant_{len(self.constants)}"
            self.constants.append(onnx.numpy_helper.from_array(array, known))
            if name:
                return name
            self._known[key] = known
        return self._known[key]

    def either(
        self,
        condition: str,
        yes: tuple[Nodes, str],
        no: tuple[Nodes, str],
        dtype: type[np.generic],
        shape: Sequence[int | str],
    ) -> str:
        """What one of two parts gives, of which only that one is computed.

        Args:
            condition: name of one bool.
            yes, no: each with the name of its result.
            dtype, shape: of both.
        """
        branches, kind = [], onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        for nodes, result in (yes, no):
            output = onnx.helper.make_tensor_value_info(result, kind, list(shape))
            branches.append(onnx.helper.make_graph(nodes.nodes, nodes.prefix, [], [output], nodes.constants))
        return self.op("If", condition, then_branch=branches[0], else_branch=branches[1])

    def cast(self, value: str, dtype: type[np.generic]) -> str:
        """Another type."""
        return self.op("Cast", value, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def rename(self, old: str, new: str) -> None:
        """Give a value another name."""
        for node in self.nodes:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == old:
                        names[place] = new

    def columns(self, value: str, columns: Sequence[int], axis: int) -> str:
        """Some columns along an axis; slices where they are neighbours. Runtimes gather single numbers slowly."""
        starts = [i for i in range(len(columns)) if not i or columns[i] != columns[i - 1] + 1]
        if len(starts) > 4 and axis == 2:
            rows = self.op("Gather", self.op("Transpose", value, perm=[0, 2, 1]), np.array(columns), axis=1)
            return self.op("Transpose", rows, perm=[0, 2, 1])
        if len(starts) > 4:
            return self.op("Gather", value, np.array(columns), axis=axis)
        ends = [*starts[1:], len(columns)]
        parts = [
            self.op("Slice", value, [columns[start]], [columns[end - 1] + 1], [axis])
            for start, end in zip(starts, ends, strict=True)
        ]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=axis)


def make_model(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    inputs: Sequence[tuple[str, type[np.generic], Sequence[int | str]]],
    outputs: Sequence[tuple[str, type[np.generic], Sequence[int | str]]],
    opset: int = OPSET,
) -> onnx.ModelProto:
    """A model of these nodes.

    Args:
        nodes, constants: in the order of computation.
        inputs, outputs: name, type and shape of each, batch first.
        opset: of the nodes.
    """
    ends = [
        [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
            for name, dtype, shape in some
        ]
        for some in (inputs, outputs)
    ]
    graph = onnx.helper.make_graph(list(nodes), "singleshot", *ends, initializer=list(constants))
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, producer_name="singleshot", ir_version=IR_VERSION, opset_imports=opsets)
