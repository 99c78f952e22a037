"""MobileNet v1 (arXiv 1704.04861), plain and in MXNet's form. Every convolution unit is a tap.

Units are called as mxnet-ssd does: ``conv_1``, then ``conv_<n>_dw`` and ``conv_<n>`` for n = 2..14, whose outputs are
taken behind the ReLU (``conv_12_relu`` is accepted too).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial

from torch import nn

from singleshot.models.config import BackboneConfig
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.registry import Layer, LayeredBackbone, register_backbone

POINTWISE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""(Channels, stride) of the 13 separable units (table 1)."""

Norm = Callable[[int], nn.Module]


def _unit(channels_in: int, channels_out: int, kernel: int, stride: int, groups: int, norm: Norm) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=norm(channels_out), relu=nn.ReLU(inplace=True)))


def _layers(in_channels: int, norm: Norm) -> Iterator[Layer]:
    yield Layer("conv_1", _unit(in_channels, 32, 3, 2, 1, norm), 32, 2)
    channels, total_stride = 32, 2
    for number, (width, stride) in enumerate(POINTWISE, start=2):
        total_stride *= stride
        yield Layer(f"conv_{number}_dw", _unit(channels, channels, 3, stride, channels, norm), channels, total_stride)
        yield Layer(f"conv_{number}", _unit(channels, width, 1, 1, 1, norm), width, total_stride)
        channels = width


def mobilenet_v1(config: BackboneConfig, *, norm: Norm) -> LayeredBackbone:
    """Build MobileNet v1 of width 1.

    Args:
        config: channels of the image, and taps, by default ``conv_12`` (stride 16) and ``conv_14`` (stride 32).
        norm: makes the normalisation of so many channels.
    """
    taps = tuple(tap.removesuffix("_relu") for tap in config.taps) or ("conv_12", "conv_14")
    return LayeredBackbone(_layers(config.in_channels, norm), taps)


register_backbone("mobilenet_v1")(partial(mobilenet_v1, norm=nn.BatchNorm2d))
register_backbone("mobilenet_v1_mxnet")(partial(mobilenet_v1, norm=MXNetBatchNorm2d))
