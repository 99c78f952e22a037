"""Graphs that ask for more memory than a machine has are refused before it is set aside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from singleshot.errors import WeightsError
from singleshot.export.memory_limit import check_tensors, most_bytes
from singleshot.export.onnx_run import OnnxRun

onnx = pytest.importorskip("onnx")

TERA = 2**40


def graph(path: Path, *, is_told: bool) -> Path:
    """The mean of 2**40 numbers: their count is a constant of the graph, or one that it computes from the input."""
    helper, constant = onnx.helper, onnx.numpy_helper.from_array
    count = constant(np.array([TERA]), "count")
    nodes = [
        helper.make_node("Expand", ["one", "count" if is_told else "computed"], ["many"]),
        helper.make_node("ReduceMean", ["many"], ["mean"], keepdims=1),
        helper.make_node("Add", ["mean", "x"], ["y"]),
    ]
    if not is_told:
        nodes[:0] = [helper.make_node("Cast", ["x"], ["factor"], to=onnx.TensorProto.INT64)]
        nodes[1:1] = [helper.make_node("Mul", ["count", "factor"], ["computed"])]
    port = helper.make_tensor_value_info
    ends = [port("x", onnx.TensorProto.FLOAT, [1])], [port("y", onnx.TensorProto.FLOAT, [1])]
    made = helper.make_graph(nodes, "g", *ends, [count, constant(np.ones(1, dtype=np.float32), "one")])
    path.write_bytes(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    return path


def test_half_of_the_machine() -> None:
    assert 2**28 < most_bytes() < TERA


@pytest.mark.parametrize("is_told", [True, False])
def test_onnx_runtime(is_told: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    run = OnnxRun(graph(tmp_path / "bomb.onnx", is_told=is_told), ["y"])
    with pytest.raises(Exception, match=f"smaller than requested bytes of {4 * TERA}"):
        run(np.ones(1, dtype=np.float32), {})
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("fixed", [True, False])
def test_openvino(fixed: bool, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from singleshot.export.openvino_core import openvino_core

    told = openvino_core().read_model(graph(tmp_path / "told.onnx", is_told=True))
    with pytest.raises(WeightsError, match=f"asks for {4 * TERA:,} bytes"):
        check_tensors(told, fixed=fixed)
    computed = openvino_core().read_model(graph(tmp_path / "computed.onnx", is_told=False))
    if fixed:
        with pytest.raises(WeightsError, match="while it runs"):
            check_tensors(computed, fixed=True)
    else:
        check_tensors(computed, fixed=False)
