"""BatchNorm folded into convolutions: nothing else may change, and nothing that is not sure to be the same."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from singleshot.models.backbone import build_backbone
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import BackboneConfig
from singleshot.models.layers import SameConv2d
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.runtime.fold import fold_batch_norms, use_winograd

SIZE = (96, 128)


def with_statistics(network: nn.Module) -> nn.Module:
    """In eval mode, as if it had been trained: no norm is the identity. Fixed gammas hold numbers that do not count."""
    generator = torch.Generator().manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            for parameter in norm.parameters():
                parameter.data.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def norms_of(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@torch.no_grad()
def assert_folds(network: nn.Module, folded: int, channels: int = 3, size_hw: tuple[int, int] = SIZE) -> None:
    with_statistics(network)
    ours = copy.deepcopy(network)
    assert fold_batch_norms(ours, channels, size_hw) == folded
    assert norms_of(ours) == norms_of(network) - folded
    images = torch.randn(1, channels, *size_hw, generator=torch.Generator().manual_seed(1))
    found, expected = ours(images), network(images)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize(
    ("name", "size_hw", "folded", "left"),
    [
        ("ssd300_vgg16", (300, 300), 0, 0),
        ("ssdlite300_mobilenet_v2", (96, 128), 76, 0),
        ("ssd300_vgg16_bn", (300, 300), 13, 0),
        ("ssd300_resnet18", (300, 300), 25, 0),
        ("mxnet_ssd_densenet_tiny_300", (300, 300), 37, 39),
        ("mxnet_ssd_resnet50_300", (128, 128), 33, 17),
    ],
)
def test_whole_networks(name: str, size_hw: tuple[int, int], folded: int, left: int) -> None:
    torch.manual_seed(0)
    network = build_network(model_spec(name, ("a", "b"), size_hw).network)
    assert norms_of(network) == folded + left
    assert_folds(network, folded, size_hw=size_hw)


def test_batch_norm_costs_vgg16_nothing() -> None:
    """Folded, every 3x3 convolution takes its ReLU and its pooling in, as without BatchNorm."""
    kinds = []
    for name in ("vgg16_reduced", "vgg16_bn"):
        network = build_backbone(BackboneConfig(name=name, taps=("relu3_1",))).eval()
        fold_batch_norms(network, 3, (32, 32))
        use_winograd(network, 3, (32, 32))
        kinds.append([type(module) for module in network.modules() if type(module) is not nn.Identity])
    assert kinds[0] == kinds[1]
    assert nn.BatchNorm2d not in kinds[1]


@settings(max_examples=30, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 4]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    kind=st.sampled_from([nn.Conv2d, SameConv2d]),
    norm=st.sampled_from(["affine", "plain", "mxnet", "fixed_gamma"]),
)
def test_a_convolution_and_its_norm(
    groups: int, stride: int, dilation: int, bias: bool, kind: type[nn.Conv2d], norm: str
) -> None:
    norms = {
        "affine": nn.BatchNorm2d(8),
        "plain": nn.BatchNorm2d(8, affine=False),
        "mxnet": MXNetBatchNorm2d(8, fixed_gamma=False),
        "fixed_gamma": MXNetBatchNorm2d(8),
    }
    conv = kind(4, 8, 3, stride, 0, dilation, groups, bias)
    assert_folds(nn.Sequential(conv, norms[norm]), 1, 4, (13, 11))


class Scaled(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Standardized(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.conv2d(input, self.weight - self.weight.mean(), self.bias)


class ReadTwice(nn.Module):
    """The norm is not the only reader of the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x) + x


class RunTwice(nn.Module):
    """A convolution with a norm for each of two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(self.conv(x)) + self.second(self.conv(2 * x))


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(4, 8, 3)),
        nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3)),
        nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.BatchNorm2d(8)),
        nn.Sequential(nn.Conv2d(4, 8, 3), Scaled(8)),
        nn.Sequential(Standardized(4, 8, 3), nn.BatchNorm2d(8)),
        nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)),
        nn.Sequential(nn.ConvTranspose2d(4, 8, 3), nn.BatchNorm2d(8)),
        ReadTwice(),
        RunTwice(),
    ],
    ids=["no norm", "norm first", "between", "norm does more", "conv does more", "batch statistics", "transposed",
         "read twice", "run twice"],
)  # fmt: skip
def test_what_is_left_alone(network: nn.Module) -> None:
    assert_folds(network, 0, 4, (13, 11))
