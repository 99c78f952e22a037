"""BatchNorm with the activation behind it, against torch's own modules in float64."""

from __future__ import annotations

import copy
from unittest.mock import patch

import pytest
import torch
import torch.fx
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from singleshot.kernels.batch_norm import RowSizes, c_sizes, kernel
from singleshot.models import fast_norm
from singleshot.models.fast_norm import ConvBlock
from singleshot.models.layers import conv_block

needs_kernel = pytest.mark.skipif(kernel() is None, reason="no C compiler here")


def block_of(channels: int, activation: str, seed: int = 0) -> ConvBlock:
    torch.manual_seed(seed)
    block = conv_block(channels, channels, activation=activation).to(memory_format=torch.channels_last)
    assert isinstance(block, ConvBlock)
    nn.init.uniform_(block.bn.weight, -1, 2)
    nn.init.normal_(block.bn.bias)
    nn.init.normal_(block.bn.running_mean)
    return block


def images_of(*shape: int, mean: float = 0.0) -> Tensor:
    return (torch.randn(*shape) + mean).to(memory_format=torch.channels_last)


def difference(ours: Tensor, exact: Tensor) -> float:
    """The largest, as a share of the largest value."""
    ours, exact = ours.detach().double(), exact.detach()
    return float((ours - exact).abs().max() / exact.abs().max().clamp(min=1e-6))


@needs_kernel
@pytest.mark.parametrize("activation", ["relu", "relu6", "hardswish", "none"])
@given(
    st.integers(1, 40), st.integers(3, 9), st.integers(3, 9), st.integers(2, 5), st.sampled_from([0.0, 30.0]), st.data()
)
@settings(max_examples=12)
def test_a_step_is_that_of_the_modules(activation, channels, height, width, batch, mean, data) -> None:
    block = block_of(channels, activation, data.draw(st.integers(0, 99))).train()
    modules, exact = copy.deepcopy(block), copy.deepcopy(block).double()
    images = images_of(batch, channels, height, width, mean=mean).requires_grad_()
    modules_images = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    exact_images = images.detach().double().requires_grad_()
    output, expected = block(images), exact(exact_images)
    assert "NormAct" in type(output.grad_fn).__name__
    assert "NormAct" not in type(expected.grad_fn).__name__
    with patch.object(fast_norm, "kernel", lambda: None):
        modules_output = modules(modules_images)
    # A value where the activation bends may fall on either side of it.
    inside = (expected - expected.round()).abs() > 1e-3
    gradients = torch.randn_like(output) * inside
    output.backward(gradients)
    modules_output.backward(gradients)
    expected.backward(gradients.double())
    assert block.bn.num_batches_tracked == exact.bn.num_batches_tracked == 1
    triples = [
        (output, modules_output, expected),
        (images.grad, modules_images.grad, exact_images.grad),
        *((getattr(b.bn, f"running_{what}") for b in (block, modules, exact)) for what in ("mean", "var")),
        *((p.grad for p in same) for same in zip(*(b.parameters() for b in (block, modules, exact)), strict=True)),
    ]
    for ours, theirs, true in triples:
        assert difference(ours, true) <= 10 * difference(theirs, true) + 1e-3


@needs_kernel
def test_gradients_as_numbers_tell() -> None:
    """Away from the edges of the clamp, in the direction of a random change."""
    block = block_of(6, "none").train()
    images = images_of(3, 6, 5, 4).requires_grad_()
    weights = torch.randn(3, 6, 5, 4)
    (block(images) * weights).sum().backward()
    change = torch.randn_like(images)
    double = copy.deepcopy(block).double()
    up, down = ((double(images.detach().double() + s * change) * weights).sum() for s in (1e-4, -1e-4))
    assert float((images.grad * change).sum()) == pytest.approx(float((up - down).detach() / 2e-4), rel=1e-3)


@needs_kernel
@pytest.mark.parametrize("activation", ["relu", "relu6", "hardswish", "none"])
def test_a_layer_that_stays_is_that_of_the_modules(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block = block_of(20, activation).eval().requires_grad_(False)
    images = images_of(2, 20, 7, 6)
    before = images.clone()
    ours = block(images)
    assert images.equal(before)
    monkeypatch.setattr(fast_norm, "kernel", lambda: None)
    torch.testing.assert_close(ours, block(images), rtol=0, atol=2e-6)


@needs_kernel
def test_the_same_threads_give_the_same_bits() -> None:
    block, images = block_of(17, "relu6").train(), images_of(4, 17, 33, 31)
    first = copy.deepcopy(block)(images)
    assert first.equal(copy.deepcopy(block)(images))


@needs_kernel
@pytest.mark.parametrize("threads", [1, 3])
def test_any_threads_compute_the_same_sums(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    block, images = block_of(9, "relu6").train(), images_of(4, 9, 40, 41).requires_grad_()
    exact = copy.deepcopy(block).double()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    block(images).sum().backward()
    exact(images.detach().double()).sum().backward()
    assert difference(block.bn.bias.grad, exact.bn.bias.grad) < 1e-4


@pytest.mark.parametrize(
    "changed",
    [
        "double", "eval that learns", "eval with a bias that learns", "no_grad", "not channels last", "hook",
        "hook of the convolution", "no momentum", "numbers of another size", "one value",
    ],
)  # fmt: skip
def test_what_it_does_not_fit_is_left_to_the_modules(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block, images = block_of(4, "relu").train(), images_of(2, 4, 3, 3)
    if changed == "double":
        block, images = block.double(), images.double()
    elif changed == "eval that learns":
        block.eval()
    elif changed == "eval with a bias that learns":
        block.eval().requires_grad_(False).bn.bias.requires_grad_()
    elif changed == "not channels last":
        images = images.contiguous()
        block = block.to(memory_format=torch.contiguous_format)
    elif changed == "hook":
        block.bn.register_forward_hook(lambda *_: None)
    elif changed == "hook of the convolution":
        block.eval().requires_grad_(False).conv.register_forward_hook(lambda *_: None)
    elif changed == "numbers of another size":
        block.eval().requires_grad_(False).bn = nn.BatchNorm2d(1).eval().requires_grad_(False)
    elif changed == "no momentum":
        block.bn.momentum = None
    elif changed == "one value":
        images = images[:1, :, :1, :1]

    def refuse(*_: object) -> None:
        raise AssertionError("the kernel was taken")

    monkeypatch.setattr(fast_norm._Call, "__call__", refuse)
    if changed in ("one value", "numbers of another size"):
        with pytest.raises((ValueError, RuntimeError), match=r"more than 1 value per channel|contain 4 elements"):
            block(images)
    else:
        with torch.set_grad_enabled(changed != "no_grad"):
            output = block(images)
        assert output.shape == images.shape
        assert output.requires_grad == any(p.requires_grad for p in block.parameters() if changed != "no_grad")


@needs_kernel
def test_a_block_that_was_cut_or_grew_computes_all_its_children() -> None:
    block, images = block_of(4, "relu").train(), images_of(2, 4, 3, 3)
    assert block[1:](images).equal(block.act(copy.deepcopy(block.bn)(images)))
    halved = copy.deepcopy(block).append(nn.AvgPool2d(3))
    assert halved(images).shape == (2, 4, 1, 1)
    symbolic = torch.fx.symbolic_trace(block.eval())
    assert symbolic(images).equal(block(images))


def test_not_finite_numbers_stay_so() -> None:
    images = images_of(2, 4, 3, 3)
    images[0, 1, 2, 2] = torch.nan
    assert block_of(4, "relu6").train()(images).isnan().any()


@pytest.mark.parametrize(("rows", "channels"), [(0, 3), (3, 0), (-1, 2)])
def test_sizes_that_no_image_has_are_refused(rows: int, channels: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        c_sizes(RowSizes(rows, channels, 0.0, 6.0))
