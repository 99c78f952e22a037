"""MobileNet v1 (arXiv 1704.04861), plain, in MXNet's form and in TensorFlow's. Every convolution unit is a tap.

Units are called as mxnet-ssd does: ``conv_1``, then ``conv_<n>_dw`` and ``conv_<n>`` for n = 2..14, whose outputs are
taken behind the ReLU (``conv_12_relu`` is accepted too).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial

from torch import nn

from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.config import BackboneConfig
from singleshot.models.layers import conv_block
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.registry import BACKBONES

POINTWISE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""(Channels, stride) of the 13 separable units (table 1)."""

Unit = Callable[[int, int, int, int, int], nn.Sequential]
"""Convolution, normalisation, activation, from input and output channels, kernel, stride and groups."""


def _unit(
    channels_in: int, channels_out: int, kernel: int, stride: int, groups: int, *, norm: Callable[[int], nn.Module]
) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=norm(channels_out), relu=nn.ReLU(inplace=True)))


def _tensorflow_unit(channels_in: int, channels_out: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    return conv_block(channels_in, channels_out, kernel, stride, "same", groups=groups, activation="relu6", eps=1e-3)


def _layers(in_channels: int, unit: Unit) -> Iterator[Layer]:
    yield Layer("conv_1", unit(in_channels, 32, 3, 2, 1), 32, 2)
    channels, total_stride = 32, 2
    for number, (width, stride) in enumerate(POINTWISE, start=2):
        total_stride *= stride
        yield Layer(f"conv_{number}_dw", unit(channels, channels, 3, stride, channels), channels, total_stride)
        yield Layer(f"conv_{number}", unit(channels, width, 1, 1, 1), width, total_stride)
        channels = width


def mobilenet_v1(config: BackboneConfig, *, unit: Unit) -> LayeredBackbone:
    """Build MobileNet v1 of width 1.

    Args:
        config: channels of the image, and taps, by default ``conv_12`` (stride 16) and ``conv_14`` (stride 32).
        unit: makes a convolution with what follows it.
    """
    taps = tuple(tap.removesuffix("_relu") for tap in config.taps) or ("conv_12", "conv_14")
    return LayeredBackbone(_layers(config.in_channels, unit), taps)


BACKBONES.register("mobilenet_v1")(partial(mobilenet_v1, unit=partial(_unit, norm=nn.BatchNorm2d)))
BACKBONES.register("mobilenet_v1_mxnet")(partial(mobilenet_v1, unit=partial(_unit, norm=MXNetBatchNorm2d)))
BACKBONES.register("mobilenet_v1_tf")(partial(mobilenet_v1, unit=_tensorflow_unit))
