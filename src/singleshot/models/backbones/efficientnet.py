"""EfficientNet (arXiv 1905.11946) in TensorFlow's form: SAME padding, BatchNorm eps 1e-3."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from torch import nn

from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.backbones.mobilenet_v2 import InvertedResidual, Stages, mobilenet_layers
from singleshot.models.config import BackboneConfig
from singleshot.models.layers import SqueezeExcite, conv_block
from singleshot.models.registry import BACKBONES

EPS = 1e-3
STEM = 40
STAGES: Stages = (
    (1, 24, 2, 3, 1), (6, 32, 3, 3, 2), (6, 48, 3, 5, 2), (6, 96, 5, 3, 2), (6, 136, 5, 5, 1), (6, 232, 6, 5, 2),
    (6, 384, 2, 3, 1),
)  # fmt: skip
"""Table 1, scaled to B3."""
LITE0: Stages = (
    (1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)  # fmt: skip
"""Table 1 as it is: B0."""


@BACKBONES.register("efficientnet_b3")
def efficientnet_b3(config: BackboneConfig) -> LayeredBackbone:
    """Every block is a tap; by default at strides 8, 16 and 32, as lufficc."""
    return LayeredBackbone(_layers(config.in_channels), config.taps or ("block7", "block17", "block25"))


@BACKBONES.register("efficientnet_lite0")
def efficientnet_lite0(config: BackboneConfig) -> LayeredBackbone:
    """EfficientNet-Lite0: B0 without gates and with ReLU6, which makes it a MobileNetV2 of other stages."""
    layers = mobilenet_layers(config.in_channels, LITE0, "same", EPS)
    return LayeredBackbone(layers, config.taps or ("block11_expand", "last"))


def _layers(in_channels: int) -> Iterator[Layer]:
    """stem, block0 ... block25."""
    yield Layer("stem", conv_block(in_channels, STEM, 3, 2, "same", activation="swish", eps=EPS), STEM, 2)
    channels, total, index = STEM, 2, 0
    for expansion, out, count, kernel, first_stride in STAGES:
        for number in range(count):
            stride = first_stride if number == 0 else 1
            total *= stride
            yield Layer(f"block{index}", _block(channels, expansion, out, kernel, stride), out, total)
            channels, index = out, index + 1


def _block(in_channels: int, expansion: int, out: int, kernel: int, stride: int) -> nn.Module:
    """Expand, depthwise, gate, linear projection; added to its input where shapes allow."""
    mid = in_channels * expansion
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if expansion > 1:
        parts["expand"] = conv_block(in_channels, mid, activation="swish", eps=EPS)
    parts["depthwise"] = conv_block(mid, mid, kernel, stride, "same", groups=mid, activation="swish", eps=EPS)
    parts["squeeze"] = SqueezeExcite(mid, in_channels // 4, activation="swish", gate="sigmoid")
    parts["project"] = conv_block(mid, out, activation="none", eps=EPS)
    return InvertedResidual(parts) if stride == 1 and in_channels == out else nn.Sequential(parts)
