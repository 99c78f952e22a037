"""Pre-activation ResNet (arXiv 1603.05027) in MXNet's form, the backbone of mxnet-ssd's ``resnet50`` and ``resnet101``.

Parameter names are MXNet's with dots (``stage1_unit1.conv1.weight``). Every unit is a tap; its output is the raw sum,
before any normalisation. mxnet-ssd calls the i-th unit's sum ``_plus<i>``, which is accepted too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.backbones.resnet import BLOCKS, BOTTLENECK_FROM
from singleshot.models.config import BackboneConfig
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.registry import BACKBONES

EPS = 2e-5


def _norm(channels: int, *, fixed_gamma: bool = False) -> MXNetBatchNorm2d:
    return MXNetBatchNorm2d(channels, EPS, fixed_gamma=fixed_gamma)


class PreactUnit(nn.Module):
    """BN-ReLU-conv, twice or three times, plus the input (figure 4e).

    A unit that changes the shape projects its first activation, not its input.

    Args:
        channels_in: of the input.
        channels_out: of the sum.
        stride: of the 3x3 convolution (the first one of a basic unit).
        bottleneck: 1x1, 3x3, 1x1 with a quarter of the channels inside; else 3x3, 3x3.
        project: shortcut through a 1x1 convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, *, bottleneck: bool, project: bool) -> None:
        super().__init__()
        width = channels_out // 4 if bottleneck else channels_out
        self.bn1 = _norm(channels_in)
        if bottleneck:
            self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
            self.bn2 = _norm(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.bn3: nn.Module | None = _norm(width)
            self.conv3: nn.Module | None = nn.Conv2d(width, channels_out, 1, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels_in, width, 3, stride, 1, bias=False)
            self.bn2 = _norm(width)
            self.conv2 = nn.Conv2d(width, channels_out, 3, 1, 1, bias=False)
            self.bn3 = self.conv3 = None
        self.sc = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False) if project else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels_in, H, W]`` to ``[B, channels_out, ~H / stride, ~W / stride]``."""
        active = self.relu(self.bn1(x))
        out = self.conv2(self.relu(self.bn2(self.conv1(active))))
        if self.bn3 is not None and self.conv3 is not None:
            out = self.conv3(self.relu(self.bn3(out)))
        summed: Tensor = out + (x if self.sc is None else self.sc(active))
        return summed


def _layers(depth: int, in_channels: int) -> Iterator[Layer]:
    yield Layer("bn_data", _norm(in_channels, fixed_gamma=True), in_channels, 1)
    yield Layer("conv0", nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False), 64, 2)
    yield Layer("bn0", _norm(64), 64, 2)
    yield Layer("relu0", nn.ReLU(inplace=True), 64, 2)
    yield Layer("pool0", nn.MaxPool2d(3, 2, 1), 64, 4)
    bottleneck = depth >= BOTTLENECK_FROM
    channels, stride = 64, 4
    for stage, count in enumerate(BLOCKS[depth]):
        width = (256 if bottleneck else 64) << stage
        for unit in range(count):
            step = 2 if unit == 0 and stage > 0 else 1
            stride *= step
            module = PreactUnit(channels, width, step, bottleneck=bottleneck, project=unit == 0)
            yield Layer(f"stage{stage + 1}_unit{unit + 1}", module, width, stride)
            channels = width


def _unit_names(depth: int) -> list[str]:
    return [f"stage{stage}_unit{unit}" for stage, n in enumerate(BLOCKS[depth], 1) for unit in range(1, n + 1)]


def resnet_preact(config: BackboneConfig, *, depth: int) -> LayeredBackbone:
    """Build a pre-activation ResNet.

    Args:
        config: channels of the image, and taps: ``stage3_unit6``, or ``_plus12`` as MXNet numbers all sums. By
            default the last unit of stages 3 and 4.
        depth: 18, 34, 50, 101 or 152.
    """
    names = _unit_names(depth)
    aliases = {f"_plus{index}": name for index, name in enumerate(names)}
    stage3, stage4 = names[-BLOCKS[depth][3] - 1], names[-1]
    taps = tuple(aliases.get(tap, tap) for tap in config.taps) or (stage3, stage4)
    return LayeredBackbone(_layers(depth, config.in_channels), taps)


for _depth in BLOCKS:
    BACKBONES.register(f"resnet{_depth}_mxnet")(partial(resnet_preact, depth=_depth))
