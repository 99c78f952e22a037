"""Training's convolutions against torch's in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from singleshot.kernels.winograd import kernel
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.fast_conv import training
from singleshot.models.fast_conv.training import WinogradConvolutions, winograd_share
from singleshot.training.precision import precision_of

needs_kernel = pytest.mark.skipif(kernel() is None, reason="no C compiler here")


def learn(conv: nn.Module, images: Tensor, gradients: Tensor) -> list[Tensor]:
    """Output and gradients of images, weight and bias."""
    conv.zero_grad()
    images = images.detach().clone().requires_grad_()
    output = conv(images)
    output.backward(gradients)
    assert images.grad is not None
    return [output.detach(), images.grad, *(p.grad for p in conv.parameters() if p.grad is not None)]


def was_ours(conv: nn.Module, images: Tensor) -> bool:
    with WinogradConvolutions():
        return "_Convolution" in str(conv(images).grad_fn)


@needs_kernel
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_equals_torch(data: st.DataObject) -> None:
    batch, height, width = (data.draw(st.integers(low, high)) for low, high in ((1, 3), (3, 21), (3, 21)))
    channels, filters = 16 * data.draw(st.integers(1, 6)), data.draw(st.integers(1, 140))
    dilation = data.draw(st.integers(1, 3))
    padding = data.draw(st.integers(0, 2 * dilation))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    conv = nn.Conv2d(channels, filters, 3, padding=padding, dilation=dilation, bias=data.draw(st.booleans()))
    conv = conv.to(memory_format=data.draw(st.sampled_from([torch.channels_last, torch.contiguous_format])))
    images = torch.randn(batch, channels, height, width)
    if min(height, width) + 2 * (padding - dilation) < 1 or not was_ours(conv, images):
        return
    gradients = torch.randn_like(conv(images))
    expected = learn(copy.deepcopy(conv).double(), images.double(), gradients.double())
    with WinogradConvolutions():
        found = learn(conv, images, gradients)
    assert len(found) == len(expected)
    for ours, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=2e-4 * max(float(exact.abs().max()), 1.0))


@needs_kernel
@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (nn.Conv2d(16, 8, 3, padding=1, stride=2), (16, 20, 20)),
        (nn.Conv2d(24, 8, 3, padding=1), (24, 20, 20)),
        (nn.Conv2d(16, 16, 3, padding=1, groups=16), (16, 20, 20)),
        (nn.Conv2d(16, 8, 1), (16, 20, 20)),
        (nn.Conv2d(16, 8, 3, padding=(1, 0)), (16, 20, 20)),
        (nn.Conv2d(16, 8, 3, padding=3), (16, 20, 20)),
        (nn.Conv2d(16, 8, 3, padding="same"), (16, 20, 20)),
        (nn.Conv2d(16, 8, 3, padding=1), (16, 1, 1)),
        (nn.Conv2d(16, 8, 3, padding=1).double(), (16, 20, 20)),
    ],
)
def test_other_convolutions_are_torchs(conv: nn.Conv2d, size: tuple[int, ...]) -> None:
    images = torch.randn(1, *size, dtype=conv.weight.dtype)
    assert not was_ours(conv, images)
    with WinogradConvolutions():
        assert torch.equal(conv(images), conv(images))


@needs_kernel
def test_frozen_parts_have_no_gradients() -> None:
    conv = nn.Conv2d(16, 8, 3, padding=1)
    conv.weight.requires_grad_(False)
    images = torch.randn(1, 16, 20, 20)
    with WinogradConvolutions():
        conv(images).sum().backward()
    assert conv.weight.grad is None
    assert conv.bias is not None
    assert conv.bias.grad is not None


@pytest.mark.heavy
@needs_kernel
def test_a_network_learns_the_same() -> None:
    """A step of SSD300-VGG16: losses and all gradients, with the precision that training takes."""
    torch.manual_seed(0)
    network = build_network(model_spec("ssd300_vgg16", ("a", "b")).network).train()
    images = torch.rand(1, 3, 300, 300)
    gradients = []
    for precision in (precision_of("fp32", compiled=True), precision_of("fp32")):
        network.zero_grad()
        with precision.forward(torch.device("cpu")):
            output = network(images)
        sum(part.square().mean() for part in output).backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    plain, ours = gradients
    assert plain.keys() == ours.keys()
    for name, expected in plain.items():
        assert (ours[name] - expected).norm() <= 1e-3 * expected.norm(), name


@needs_kernel
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("ssd300_vgg16", 0.9, 1.0), ("ssd300_resnet50", 0.3, 0.6), ("ssdlite300_mobilenet_v2", 0, 0.01)],
)
def test_share_of_a_network(name: str, low: float, high: float) -> None:
    spec = model_spec(name, ("a", "b"))
    network = build_network(spec.network).train()
    assert low <= winograd_share(network, spec.preprocess.size_hw) <= high
    assert network.training


def test_without_a_kernel_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "kernel", lambda: None)
    network = build_network(model_spec("ssd300_resnet18", ("a",)).network)
    assert winograd_share(network, (300, 300)) == 0
    assert not was_ours(nn.Conv2d(16, 8, 3, padding=1), torch.randn(1, 16, 20, 20))
