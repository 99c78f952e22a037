from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from singleshot.models.layers import L2Norm, SameConv2d, conv2d, conv_block, same_padding


@pytest.mark.parametrize(
    ("size", "expected"),
    [(300, (0, 1)), (150, (0, 1)), (75, (1, 1)), (38, (0, 1)), (19, (1, 1)), (10, (0, 1)), (5, (1, 1)), (3, (1, 1)),
     (2, (0, 1))],
)  # fmt: skip
def test_same_padding_of_the_maps_at_300(size: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel=3, stride=2) == expected


@given(
    size=st.integers(1, 40), kernel=st.integers(1, 5), stride=st.integers(1, 4), dilation=st.integers(1, 3)
)  # fmt: skip
def test_same_padding_gives_a_cell_per_stride(size: int, kernel: int, stride: int, dilation: int) -> None:
    before, after = same_padding(size, kernel, stride, dilation)
    assert 0 <= after - before <= 1
    reach = dilation * (kernel - 1) + 1
    padded = size + before + after
    assert (max(padded, reach) - reach) // stride + 1 == -(-size // stride)


@pytest.mark.parametrize("size_hw", [(10, 10), (7, 10), (1, 2)])
def test_same_convolution_equals_explicit_padding(size_hw: tuple[int, int]) -> None:
    layer = SameConv2d(2, 3, 3, 2)
    x = torch.randn(2, 2, *size_hw)
    top, bottom = same_padding(size_hw[0], 3, 2)
    left, right = same_padding(size_hw[1], 3, 2)
    padded = functional.pad(x, (left, right, top, bottom))
    expected = functional.conv2d(padded, layer.weight, layer.bias, stride=2)
    torch.testing.assert_close(layer(x), expected)


def test_conv2d_keeps_the_size_by_default() -> None:
    assert conv2d(1, 1, 5, dilation=2)(torch.zeros(1, 1, 9, 11)).shape == (1, 1, 9, 11)


def test_conv_block_has_a_bias_exactly_without_batch_norm() -> None:
    assert [name for name, _ in conv_block(1, 2).named_children()] == ["conv", "bn", "act"]
    assert conv_block(1, 2).conv.bias is None
    plain = conv_block(1, 2, batch_norm=False, activation="none")
    assert [name for name, _ in plain.named_children()] == ["conv"]
    assert plain.conv.bias is not None


@pytest.mark.parametrize("eps", ["inside", "outside", "max"])
def test_l2_norm(eps: str) -> None:
    x = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(L2Norm(2, init=20.0, eps=eps)(x).flatten(), torch.tensor([12.0, 16.0]))
    zero = torch.zeros(1, 2, 1, 1)
    assert torch.equal(L2Norm(2, eps=eps)(zero), zero)


@pytest.mark.parametrize(("eps", "divisor"), [("inside", 1.0 + 1e-10), ("outside", 1e-10 + 1e-10), ("max", 1e-10)])
def test_l2_norm_dialects_differ_where_values_are_tiny(eps: str, divisor: float) -> None:
    x = torch.full((1, 1, 1, 1), 1e-10, dtype=torch.float64)
    layer = L2Norm(1, init=1.0, eps=eps).double()
    root = {"inside": (1e-20 + 1e-10) ** 0.5}.get(eps, divisor)
    assert layer(x).item() == pytest.approx(1e-10 / root, rel=1e-6)


def test_a_traced_graph_knows_its_padding(tmp_path: Path) -> None:
    """ONNX Runtime puts it into the convolution only if it is a constant; else each picture is copied twice more."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    convolution, x = SameConv2d(3, 4, 3, 2, 0, bias=False).eval(), torch.randn(2, 3, 10, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(convolution, (x,), tmp_path / "x.onnx", dynamo=False, dynamic_axes={"x": {0: "batch"}},
                          input_names=["x"], opset_version=17)  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "small.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], convolution(x).detach().numpy(), atol=1e-5)
    assert [node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node] == ["Conv"]
