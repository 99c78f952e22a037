"""MobileNetV3-Large (arXiv 1905.02244, table 1)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.backbones.mobilenet_v2 import InvertedResidual
from singleshot.models.config import BackboneConfig
from singleshot.models.layers import ACTIVATIONS, Padding, SqueezeExcite, conv_block
from singleshot.models.registry import BACKBONES


class BlockRow(NamedTuple):
    """One row of the table: kernel, channels inside and out, of the squeeze (0: none), activation, stride."""

    kernel: int
    mid: int
    out: int
    squeeze: int
    activation: str
    stride: int


BLOCKS = (
    BlockRow(3, 16, 16, 0, "relu", 1),
    BlockRow(3, 64, 24, 0, "relu", 2),
    BlockRow(3, 72, 24, 0, "relu", 1),
    BlockRow(5, 72, 40, 24, "relu", 2),
    BlockRow(5, 120, 40, 32, "relu", 1),
    BlockRow(5, 120, 40, 32, "relu", 1),
    BlockRow(3, 240, 80, 0, "hardswish", 2),
    BlockRow(3, 200, 80, 0, "hardswish", 1),
    BlockRow(3, 184, 80, 0, "hardswish", 1),
    BlockRow(3, 184, 80, 0, "hardswish", 1),
    BlockRow(3, 480, 112, 120, "hardswish", 1),
    BlockRow(3, 672, 112, 168, "hardswish", 1),
)
TAIL = (
    BlockRow(5, 672, 160, 168, "hardswish", 2),
    BlockRow(5, 960, 160, 240, "hardswish", 1),
    BlockRow(5, 960, 160, 240, "hardswish", 1),
)
REDUCED_TAIL = (
    BlockRow(5, 672, 80, 168, "hardswish", 2),
    BlockRow(5, 480, 80, 120, "hardswish", 1),
    BlockRow(5, 480, 80, 120, "hardswish", 1),
)
"""Half the channels after stride 16, for detection (section 6.3)."""

EPS = 1e-3


@BACKBONES.register("mobilenet_v3_large")
def mobilenet_v3_large(config: BackboneConfig) -> LayeredBackbone:
    """The classification network's layers (960 channels last)."""
    return LayeredBackbone(_layers(config.in_channels, BLOCKS + TAIL), config.taps or ("block13_expand", "last"))


@BACKBONES.register("mobilenet_v3_large_squeeze_first")
def mobilenet_v3_large_squeeze_first(config: BackboneConfig) -> LayeredBackbone:
    """Gates before the activation of the depthwise convolution, BatchNorm eps 1e-5 (lufficc)."""
    layers = _layers(config.in_channels, BLOCKS + TAIL, squeeze_first=True, eps=1e-5)
    return LayeredBackbone(layers, config.taps or ("block12", "last"))


@BACKBONES.register("mobilenet_v3_large_reduced")
def mobilenet_v3_large_reduced(config: BackboneConfig) -> LayeredBackbone:
    """Reduced tail (480 channels last), as torchvision's trained SSDLite."""
    layers = _layers(config.in_channels, BLOCKS + REDUCED_TAIL)
    return LayeredBackbone(layers, config.taps or ("block13_expand", "last"))


@BACKBONES.register("mobilenet_v3_large_reduced_tf")
def mobilenet_v3_large_reduced_tf(config: BackboneConfig) -> LayeredBackbone:
    """Reduced tail with SAME padding, as the TensorFlow Object Detection API's."""
    layers = _layers(config.in_channels, BLOCKS + REDUCED_TAIL, padding="same")
    return LayeredBackbone(layers, config.taps or ("block13_expand", "last"))


def _layers(
    in_channels: int,
    blocks: tuple[BlockRow, ...],
    *,
    squeeze_first: bool = False,
    eps: float = EPS,
    padding: Padding | None = None,
) -> Iterator[Layer]:
    """stem, block1 ... block15, last. A block without a shortcut is two layers, so that its expansion can be tapped."""
    yield Layer("stem", conv_block(in_channels, 16, 3, 2, padding, activation="hardswish", eps=eps), 16, 2)
    channels, stride = 16, 2
    for index, block in enumerate(blocks, start=1):
        yield from _block(f"block{index}", channels, block, stride, squeeze_first, eps, padding)
        channels, stride = block.out, stride * block.stride
    last = channels * 6
    yield Layer("last", conv_block(channels, last, activation="hardswish", eps=eps), last, stride)


def _block(
    name: str,
    in_channels: int,
    block: BlockRow,
    total: int,
    squeeze_first: bool,
    eps: float,
    padding: Padding | None,
) -> Iterator[Layer]:
    """One block whose input has stride ``total``."""
    mid, act = block.mid, block.activation
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    has_shortcut = block.stride == 1 and in_channels == block.out
    expand = conv_block(in_channels, mid, activation=act, eps=eps) if mid != in_channels else None
    if expand is not None and has_shortcut:
        parts["expand"] = expand
    elif expand is not None:
        yield Layer(f"{name}_expand", expand, mid, total)
    gate_first = squeeze_first and block.squeeze > 0
    parts["depthwise"] = conv_block(
        mid, mid, block.kernel, block.stride, padding, groups=mid, activation="none" if gate_first else act, eps=eps
    )
    if block.squeeze:
        parts["squeeze"] = SqueezeExcite(mid, block.squeeze)
    if gate_first:
        parts["act"] = ACTIVATIONS[act]()
    parts["project"] = conv_block(mid, block.out, activation="none", eps=eps)
    module = InvertedResidual(parts) if has_shortcut else nn.Sequential(parts)
    yield Layer(name, module, block.out, total * block.stride)
