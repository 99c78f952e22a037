"""SqueezeNet 1.1 (arXiv 1602.07360). Every layer is a tap."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.config import BackboneConfig
from singleshot.models.layers import Fire
from singleshot.models.registry import BACKBONES

FIRES = ((16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192), (64, 256), (64, 256))
"""(squeeze, expand) of fire2 to fire9; ``None`` is a pool, which rounds down."""


@BACKBONES.register("squeezenet1_1")
def squeezenet1_1(config: BackboneConfig) -> LayeredBackbone:
    """Tapped by default before the last module, as pytorch-ssd."""
    return LayeredBackbone(_layers(config.in_channels), config.taps or ("fire8",))


def _layers(in_channels: int) -> Iterator[Layer]:
    """conv1, relu1, pool1, fire2 ... fire9."""
    channels, stride, number = 64, 4, 2
    yield Layer("conv1", nn.Conv2d(in_channels, channels, 3, 2), channels, 2)
    yield Layer("relu1", nn.ReLU(inplace=True), channels, 2)
    yield Layer("pool1", nn.MaxPool2d(3, 2), channels, stride)
    for fire in FIRES:
        if fire is None:
            stride *= 2
            yield Layer(f"pool{number - 1}", nn.MaxPool2d(3, 2), channels, stride)
            continue
        squeeze, expand = fire
        yield Layer(f"fire{number}", Fire(channels, squeeze, expand), 2 * expand, stride)
        channels, number = 2 * expand, number + 1
