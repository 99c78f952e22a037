"""MobileNetV2 (arXiv 1801.04381)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from torch import Tensor, nn

from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.config import BackboneConfig
from singleshot.models.layers import Padding, conv_block
from singleshot.models.registry import BACKBONES

Stages = tuple[tuple[int, int, int, int, int], ...]
"""(expansion, channels, blocks, kernel, stride of the first block) of each stage."""

STAGES: Stages = (
    (1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 32, 3, 3, 2), (6, 64, 4, 3, 2), (6, 96, 3, 3, 1), (6, 160, 3, 3, 2),
    (6, 320, 1, 3, 1),
)  # fmt: skip
"""Table 2."""


@BACKBONES.register("mobilenet_v2")
def mobilenet_v2(config: BackboneConfig) -> LayeredBackbone:
    """Symmetric padding, BatchNorm eps 1e-5 (torchvision, lufficc, qfgaohao)."""
    return LayeredBackbone(
        mobilenet_layers(config.in_channels, STAGES, None, 1e-5), config.taps or ("block13_expand", "last")
    )


@BACKBONES.register("mobilenet_v2_tf")
def mobilenet_v2_tf(config: BackboneConfig) -> LayeredBackbone:
    """TensorFlow's: SAME padding, BatchNorm eps 1e-3."""
    return LayeredBackbone(
        mobilenet_layers(config.in_channels, STAGES, "same", 1e-3), config.taps or ("block13_expand", "last")
    )


class InvertedResidual(nn.Module):
    """Expand, depthwise, linear projection; added to its input.

    Args:
        parts: the three convolutions in order.
    """

    def __init__(self, parts: OrderedDict[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        out = x
        for part in self.children():
            out = part(out)
        return out + x


def mobilenet_layers(in_channels: int, stages: Stages, padding: Padding | None, eps: float) -> Iterator[Layer]:
    """stem, block0 ..., last. A block without a shortcut is two layers, so that its expansion can be tapped."""
    yield Layer("stem", conv_block(in_channels, 32, 3, 2, padding, activation="relu6", eps=eps), 32, 2)
    channels, total, index = 32, 2, 0
    for expansion, out, count, kernel, first_stride in stages:
        for number in range(count):
            stride = first_stride if number == 0 else 1
            mid = channels * expansion
            yield from _block(f"block{index}", channels, mid, out, kernel, stride, total, padding, eps)
            channels, total, index = out, total * stride, index + 1
    yield Layer("last", conv_block(channels, 1280, activation="relu6", eps=eps), 1280, total)


def _block(
    name: str,
    in_channels: int,
    mid: int,
    out: int,
    kernel: int,
    stride: int,
    total: int,
    padding: Padding | None,
    eps: float,
) -> Iterator[Layer]:
    """One inverted residual block whose input has stride ``total``."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    has_shortcut = stride == 1 and in_channels == out
    expand = conv_block(in_channels, mid, activation="relu6", eps=eps) if mid != in_channels else None
    if expand is not None and has_shortcut:
        parts["expand"] = expand
    elif expand is not None:
        yield Layer(f"{name}_expand", expand, mid, total)
    parts["depthwise"] = conv_block(mid, mid, kernel, stride, padding, groups=mid, activation="relu6", eps=eps)
    parts["project"] = conv_block(mid, out, activation="none", eps=eps)
    module = InvertedResidual(parts) if has_shortcut else nn.Sequential(parts)
    yield Layer(name, module, out, total * stride)
