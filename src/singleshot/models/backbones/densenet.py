"""DenseNet-BC (arXiv 1608.06993) in MXNet's form: 121 to 201 layers, mxnet-ssd's tiny one, and any other.

Every unit is a tap. Its output is the raw concatenation, before any normalisation; mxnet-ssd's ``DBstage<s>_concat<u>``
is accepted as the name of unit u of stage s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.config import BackboneConfig
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.registry import BACKBONES

BOTTLENECK = 4
EPS = 2e-5


def _norm(channels: int, *, fixed_gamma: bool = False) -> MXNetBatchNorm2d:
    return MXNetBatchNorm2d(channels, EPS, fixed_gamma=fixed_gamma)


class DenseUnit(nn.Module):
    """BN-ReLU-1x1-BN-ReLU-3x3, whose output is appended to its input (section 3, "bottleneck layers")."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = _norm(channels)
        self.conv1 = nn.Conv2d(channels, BOTTLENECK * growth, 1, bias=False)
        self.bn2 = _norm(BOTTLENECK * growth)
        self.conv2 = nn.Conv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels, H, W]`` to ``[B, channels + growth, H, W]``."""
        new = self.conv1(self.relu(self.bn1(x)))
        return torch.cat([x, self.conv2(self.relu(self.bn2(new)))], dim=1)


def _transition(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
    return nn.Sequential(OrderedDict(bn1=_norm(channels), relu=nn.ReLU(inplace=True), conv1=conv, pool=nn.AvgPool2d(2)))


def _layers(in_channels: int, growth: int, units: tuple[int, ...]) -> Iterator[Layer]:
    channels, stride = 2 * growth, 4
    yield Layer("bn_data", _norm(in_channels, fixed_gamma=True), in_channels, 1)
    yield Layer("conv0", nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False), channels, 2)
    yield Layer("bn0", _norm(channels), channels, 2)
    yield Layer("relu0", nn.ReLU(inplace=True), channels, 2)
    yield Layer("pool0", nn.MaxPool2d(3, 2, 1), channels, stride)
    for stage, count in enumerate(units, start=1):
        for unit in range(1, count + 1):
            module = DenseUnit(channels, growth)
            channels += growth
            yield Layer(f"DBstage{stage}_unit{unit}", module, channels, stride)
        transition = _transition(channels)
        channels, stride = channels // 2, stride * 2
        yield Layer(f"TBstage{stage}", transition, channels, stride)


def densenet(config: BackboneConfig, *, growth: int, units: tuple[int, ...], first_tap: int = 3) -> LayeredBackbone:
    """Build a DenseNet-BC with compression one half.

    Args:
        config: channels of the image; taps: ``DBstage3_unit24``, or MXNet's ``DBstage3_concat24``; ``growth`` and
            ``units`` where they differ from the following.
        growth: channels that every unit appends.
        units: units of each stage.
        first_tap: stage of the first of two taps, the last units of their stages, where ``config`` names none.
    """
    units = config.units or units
    finest = min(first_tap, max(len(units) - 1, 1))
    own = tuple(f"DBstage{stage}_unit{units[stage - 1]}" for stage in range(finest, len(units) + 1))[:2]
    taps = tuple(tap.replace("_concat", "_unit") for tap in config.taps) or own
    return LayeredBackbone(_layers(config.in_channels, config.growth or growth, units), taps)


UNITS_121 = (6, 12, 24, 16)
BACKBONES.register("densenet121")(partial(densenet, growth=32, units=UNITS_121))
BACKBONES.register("densenet161")(partial(densenet, growth=48, units=(6, 12, 36, 24)))
BACKBONES.register("densenet169")(partial(densenet, growth=32, units=(6, 12, 32, 32)))
BACKBONES.register("densenet201")(partial(densenet, growth=32, units=(6, 12, 48, 32)))
BACKBONES.register("densenet_tiny")(partial(densenet, growth=16, units=(6, 12, 18, 12), first_tap=2))
# Any other, by `BackboneConfig.growth` and ``units``.
BACKBONES.register("densenet")(partial(densenet, growth=32, units=UNITS_121))
