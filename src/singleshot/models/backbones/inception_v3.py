"""Inception-v3 (arXiv 1512.00567) in MXNet's form: no padding in the stem, fixed gammas. Every block is a tap.

Blocks are called ``mixed``, ``mixed_1`` to ``mixed_10``; MXNet's ``ch_concat_<block>_chconcat`` is accepted too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.config import BackboneConfig
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.registry import BACKBONES

Kernel = int | tuple[int, int]


def _conv(channels_in: int, channels_out: int, kernel: Kernel = 1, stride: int = 1, pad: bool = True) -> nn.Sequential:
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (height // 2, width // 2) if pad else 0
    conv = nn.Conv2d(channels_in, channels_out, (height, width), stride, padding, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=MXNetBatchNorm2d(channels_out), relu=nn.ReLU(inplace=True)))


def _tower(channels_in: int, *steps: tuple[int, Kernel], last_stride: int = 1) -> nn.Sequential:
    """Chain convolutions of (channels, kernel); a strided last one has no padding."""
    convs = []
    for index, (channels, kernel) in enumerate(steps):
        stride = last_stride if index == len(steps) - 1 else 1
        convs.append(_conv(channels_in, channels, kernel, stride, pad=stride == 1))
        channels_in = channels
    return nn.Sequential(*convs)


class Branches(nn.Module):
    """Run branches side by side and concatenate their outputs."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the concatenation over channels."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _pooled(channels_in: int, channels: int, kind: str = "avg") -> nn.Sequential:
    pool = nn.AvgPool2d(3, 1, 1) if kind == "avg" else nn.MaxPool2d(3, 1, 1)
    return nn.Sequential(pool, _conv(channels_in, channels))


def _block_35(channels_in: int, pooled: int) -> tuple[nn.Module, int]:
    """Figure 5: 1x1, 5x5, double 3x3 and pool."""
    branches = [
        _tower(channels_in, (64, 1)),
        _tower(channels_in, (48, 1), (64, 5)),
        _tower(channels_in, (64, 1), (96, 3), (96, 3)),
        _pooled(channels_in, pooled),
    ]
    return Branches(branches), 64 + 64 + 96 + pooled


def _block_17(channels_in: int, width: int) -> tuple[nn.Module, int]:
    """Figure 6: 7x7 convolutions split into 1x7 and 7x1."""
    row, column = (1, 7), (7, 1)
    branches = [
        _tower(channels_in, (192, 1)),
        _tower(channels_in, (width, 1), (width, row), (192, column)),
        _tower(channels_in, (width, 1), (width, column), (width, row), (width, column), (192, row)),
        _pooled(channels_in, 192),
    ]
    return Branches(branches), 4 * 192


def _block_8(channels_in: int, pool: str) -> tuple[nn.Module, int]:
    """Figure 7: 3x3 convolutions fanned out into 1x3 and 3x1."""

    def fan() -> nn.Module:
        return Branches([_conv(384, 384, (1, 3)), _conv(384, 384, (3, 1))])

    branches = [
        _tower(channels_in, (320, 1)),
        nn.Sequential(_tower(channels_in, (384, 1)), fan()),
        nn.Sequential(_tower(channels_in, (448, 1), (384, 3)), fan()),
        _pooled(channels_in, 192, pool),
    ]
    return Branches(branches), 320 + 768 + 768 + 192


def _reduce_17(channels_in: int) -> tuple[nn.Module, int]:
    """From the 35 grid to the 17 grid."""
    branches = [
        _tower(channels_in, (384, 3), last_stride=2),
        _tower(channels_in, (64, 1), (96, 3), (96, 3), last_stride=2),
        nn.MaxPool2d(3, 2),
    ]
    return Branches(branches), 384 + 96 + channels_in


def _reduce_8(channels_in: int) -> tuple[nn.Module, int]:
    """From the 17 grid to the 8 grid."""
    branches = [
        _tower(channels_in, (192, 1), (320, 3), last_stride=2),
        _tower(channels_in, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), last_stride=2),
        nn.MaxPool2d(3, 2),
    ]
    return Branches(branches), 320 + 192 + channels_in


def _layers(in_channels: int) -> Iterator[Layer]:
    yield Layer("conv", _conv(in_channels, 32, 3, 2, pad=False), 32, 2)
    yield Layer("conv_1", _conv(32, 32, 3, pad=False), 32, 2)
    yield Layer("conv_2", _conv(32, 64, 3), 64, 2)
    yield Layer("pool", nn.MaxPool2d(3, 2), 64, 4)
    yield Layer("conv_3", _conv(64, 80), 80, 4)
    yield Layer("conv_4", _conv(80, 192, 3, pad=False), 192, 4)
    yield Layer("pool1", nn.MaxPool2d(3, 2), 192, 8)
    channels = 192
    for name, pooled in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
        module, channels = _block_35(channels, pooled)
        yield Layer(name, module, channels, 8)
    module, channels = _reduce_17(channels)
    yield Layer("mixed_3", module, channels, 16)
    for name, width in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
        module, channels = _block_17(channels, width)
        yield Layer(name, module, channels, 16)
    module, channels = _reduce_8(channels)
    yield Layer("mixed_8", module, channels, 32)
    for name, pool in (("mixed_9", "avg"), ("mixed_10", "max")):
        module, channels = _block_8(channels, pool)
        yield Layer(name, module, channels, 32)


@BACKBONES.register("inception_v3_mxnet")
def inception_v3(config: BackboneConfig) -> LayeredBackbone:
    """Build Inception-v3, tapped by default on its three grids (35, 17 and 8 cells at 300 pixels)."""
    taps = tuple(tap.removeprefix("ch_concat_").removesuffix("_chconcat") for tap in config.taps)
    return LayeredBackbone(_layers(config.in_channels), taps or ("mixed_2", "mixed_7", "mixed_10"))
