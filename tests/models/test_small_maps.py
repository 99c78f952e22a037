from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.fast_conv.small_maps import SmallMapConvolutions, has_small_maps
from singleshot.training.precision import Precision, cpu_bf16_units

CPU = torch.device("cpu")
SHAPES = list(itertools.product((1, 2, 3, 5, 7), (1, 2, 3), (1, 2, 6), ((1, 1), (2, 1), (2, 2), (3, 5))))


def gradients(conv: nn.Module, images: Tensor) -> list[Tensor]:
    conv.zero_grad()
    images = images.clone().requires_grad_()
    output = conv(images)
    (output * torch.cos(torch.arange(output.numel())).view_as(output)).sum().backward()
    assert images.grad is not None
    return [output.detach(), images.grad, *(p.grad.clone() for p in conv.parameters() if p.grad is not None)]


def dirty_freed_memory() -> None:
    blocks = [torch.full((2**power,), torch.nan) for power in range(4, 17) for _ in range(4)]
    del blocks


@pytest.mark.parametrize(("kernel", "stride", "dilation", "map_hw"), SHAPES)
def test_the_same_convolution_and_gradients(kernel: int, stride: int, dilation: int, map_hw: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 8, *map_hw, dtype=torch.float64)
    for padding, groups in itertools.product({0, 1, dilation * (kernel - 1) // 2}, (1, 8)):
        if min(map_hw) + 2 * padding <= dilation * (kernel - 1):
            continue
        conv = nn.Conv2d(8, 8, kernel, stride, padding, dilation, groups).double()
        expected = gradients(conv, images)
        with SmallMapConvolutions():
            found = gradients(conv, images)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("map_hw", "kernel", "stride", "count"),
    [((1, 1), 1, 1, 0), ((1, 1), 3, 1, 1), ((1, 1), 3, 2, 1), ((2, 2), 3, 2, 1), ((2, 2), 3, 1, 0), ((9, 9), 3, 2, 0)],
)
def test_only_kernels_that_reach_beyond_the_map_change(
    map_hw: tuple[int, int], kernel: int, stride: int, count: int
) -> None:
    conv = nn.Conv2d(4, 4, kernel, stride, kernel // 2)
    with SmallMapConvolutions() as mode:
        conv(torch.randn(1, 4, *map_hw))
    assert mode.count == count


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("number_format", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("groups", [1, 32])
@pytest.mark.parametrize("map_hw", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_entries_that_meet_only_padding_have_gradient_zero(
    layout: torch.memory_format, number_format: torch.dtype, groups: int, map_hw: tuple[int, int]
) -> None:
    """torch 2.11 and 2.13 leave these gradients unwritten where oneDNN computes in bf16."""
    for stride in (2, 3):
        conv = nn.Conv2d(32, 32, 3, stride, 1, groups=groups).to(memory_format=layout)
        images = torch.randn(4, 32, *map_hw).contiguous(memory_format=layout)
        dirty_freed_memory()
        with Precision(number_format, small_maps=True).forward(CPU):
            output = conv(images)
        output.float().sum().backward()
        assert conv.weight.grad is not None
        assert conv.weight.grad[:, :, 0].count_nonzero() == 0
        assert conv.weight.grad.isfinite().all()


SMALL_INPUTS = [
    ("ssdlite300_mobilenet_v2", 64),
    ("ssdlite300_mobilenet_v2", 128),
    ("ssdlite320_mobilenet_v3_large", 96),
    ("ssd300_mobilenet_v1", 64),
    ("mxnet_ssd_densenet_tiny_300", 64),
]


def network_gradients(network: nn.Module, images: Tensor, context: AbstractContextManager[object]) -> list[Tensor]:
    network.zero_grad()
    dirty_freed_memory()
    with context:
        output = network(images)
    sum(tensor.float().square().mean() for tensor in output).backward()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize(("name", "size"), SMALL_INPUTS)
def test_networks_of_small_inputs_have_the_gradients_of_float64(name: str, size: int) -> None:
    torch.manual_seed(0)
    network = build_network(model_spec(name, ("a", "b"), (size, size)).network)
    assert has_small_maps(network, (size, size))
    images = torch.randn(2, 3, size, size)
    double = network.double().eval()
    plain = network_gradients(double, images.double(), nullcontext())
    torch.testing.assert_close(network_gradients(double, images.double(), SmallMapConvolutions()), plain)
    if not cpu_bf16_units() and (name, size) != SMALL_INPUTS[-1]:
        return  # bf16 is emulated here, minutes for these networks; the smallest one shows that it works
    network = network.float().train().to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    first, second = (
        network_gradients(network, images, Precision(torch.bfloat16, small_maps=True).forward(CPU)) for _ in range(2)
    )
    assert all(gradient.isfinite().all() for gradient in first)
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_large_inputs_have_no_small_maps() -> None:
    assert not has_small_maps(build_network(model_spec("ssdlite300_mobilenet_v2", ("a",)).network), (640, 640))
