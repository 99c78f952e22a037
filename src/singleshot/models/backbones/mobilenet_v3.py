"""MobileNetV3-Large (arXiv 1905.02244, table 1)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from singleshot.models.backbones.mobilenet_v2 import InvertedResidual
from singleshot.models.config import BackboneConfig
from singleshot.models.layers import conv_block
from singleshot.models.registry import Layer, LayeredBackbone, register_backbone


class Block(NamedTuple):
    """One row of the table: kernel, channels inside and out, of the squeeze (0: none), activation, stride."""

    kernel: int
    mid: int
    out: int
    squeeze: int
    activation: str
    stride: int


BLOCKS = (
    Block(3, 16, 16, 0, "relu", 1),
    Block(3, 64, 24, 0, "relu", 2),
    Block(3, 72, 24, 0, "relu", 1),
    Block(5, 72, 40, 24, "relu", 2),
    Block(5, 120, 40, 32, "relu", 1),
    Block(5, 120, 40, 32, "relu", 1),
    Block(3, 240, 80, 0, "hardswish", 2),
    Block(3, 200, 80, 0, "hardswish", 1),
    Block(3, 184, 80, 0, "hardswish", 1),
    Block(3, 184, 80, 0, "hardswish", 1),
    Block(3, 480, 112, 120, "hardswish", 1),
    Block(3, 672, 112, 168, "hardswish", 1),
)
TAIL = (
    Block(5, 672, 160, 168, "hardswish", 2),
    Block(5, 960, 160, 240, "hardswish", 1),
    Block(5, 960, 160, 240, "hardswish", 1),
)
REDUCED_TAIL = (
    Block(5, 672, 80, 168, "hardswish", 2),
    Block(5, 480, 80, 120, "hardswish", 1),
    Block(5, 480, 80, 120, "hardswish", 1),
)
"""Half the channels after stride 16, for detection (section 6.3)."""

EPS = 1e-3


@register_backbone("mobilenet_v3_large")
def mobilenet_v3_large(config: BackboneConfig) -> LayeredBackbone:
    """The classification network's layers (960 channels last)."""
    return LayeredBackbone(_layers(config.in_channels, BLOCKS + TAIL), config.taps or ("block13_expand", "last"))


@register_backbone("mobilenet_v3_large_reduced")
def mobilenet_v3_large_reduced(config: BackboneConfig) -> LayeredBackbone:
    """Reduced tail (480 channels last), as torchvision's trained SSDLite."""
    layers = _layers(config.in_channels, BLOCKS + REDUCED_TAIL)
    return LayeredBackbone(layers, config.taps or ("block13_expand", "last"))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the means of all channels (arXiv 1709.01507)."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        gates: Tensor = self.gate(self.fc2(self.act(self.fc1(self.pool(x)))))
        return x * gates


def _layers(in_channels: int, blocks: tuple[Block, ...]) -> Iterator[Layer]:
    """stem, block1 ... block15, last. A block without a shortcut is two layers, so that its expansion can be tapped."""
    yield Layer("stem", conv_block(in_channels, 16, 3, 2, activation="hardswish", eps=EPS), 16, 2)
    channels, stride = 16, 2
    for index, block in enumerate(blocks, start=1):
        yield from _block(f"block{index}", channels, block, stride)
        channels, stride = block.out, stride * block.stride
    last = channels * 6
    yield Layer("last", conv_block(channels, last, activation="hardswish", eps=EPS), last, stride)


def _block(name: str, in_channels: int, block: Block, total: int) -> Iterator[Layer]:
    """One block whose input has stride ``total``."""
    mid, act = block.mid, block.activation
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    has_shortcut = block.stride == 1 and in_channels == block.out
    expand = conv_block(in_channels, mid, activation=act, eps=EPS) if mid != in_channels else None
    if expand is not None and has_shortcut:
        parts["expand"] = expand
    elif expand is not None:
        yield Layer(f"{name}_expand", expand, mid, total)
    parts["depthwise"] = conv_block(mid, mid, block.kernel, block.stride, groups=mid, activation=act, eps=EPS)
    if block.squeeze:
        parts["squeeze"] = SqueezeExcite(mid, block.squeeze)
    parts["project"] = conv_block(mid, block.out, activation="none", eps=EPS)
    module = InvertedResidual(parts) if has_shortcut else nn.Sequential(parts)
    yield Layer(name, module, block.out, total * block.stride)
