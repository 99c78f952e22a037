"""ResNet (arXiv 1512.03385) in torchvision's form: the 3x3 convolution of a bottleneck carries the stride.

Parameter names are torchvision's, so its ImageNet weights load as they are. Taps: ``layer1`` to ``layer4``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.config import BackboneConfig
from singleshot.models.registry import BACKBONES

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BOTTLENECK_FROM = 50
EXPANSION = 4


def _conv_norm_shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm2d(channels_out)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (figure 5, left)."""

    def __init__(self, channels_in: int, width: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _conv_norm_shortcut(channels_in, width, stride)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels_in, H, W]`` to ``[B, out_channels, ~H / stride, ~W / stride]``."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        summed: Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return summed


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut (figure 5, right)."""

    def __init__(self, channels_in: int, width: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        self.out_channels = width * EXPANSION
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, self.out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _conv_norm_shortcut(channels_in, self.out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels_in, H, W]`` to ``[B, out_channels, ~H / stride, ~W / stride]``."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        summed: Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return summed


def _layers(
    depth: int, in_channels: int, strides: tuple[int, ...], dilations: tuple[int, ...], pool_padding: int
) -> Iterator[Layer]:
    yield Layer("conv1", nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False), 64, 2)
    yield Layer("bn1", nn.BatchNorm2d(64), 64, 2)
    yield Layer("relu", nn.ReLU(inplace=True), 64, 2)
    yield Layer("maxpool", nn.MaxPool2d(3, stride=2, padding=pool_padding), 64, 4)
    block = Bottleneck if depth >= BOTTLENECK_FROM else BasicBlock
    channels, total_stride = 64, 4
    for stage, (count, stride, dilation) in enumerate(zip(BLOCKS[depth], strides, dilations, strict=True)):
        units = []
        for unit in range(count):
            module = block(channels, 64 << stage, stride if unit == 0 else 1, dilation)
            channels = module.out_channels
            units.append(module)
        total_stride *= stride
        yield Layer(f"layer{stage + 1}", nn.Sequential(*units), channels, total_stride)


def resnet(
    config: BackboneConfig,
    *,
    depth: int,
    taps: tuple[str, ...] = ("layer2", "layer3", "layer4"),
    strides: tuple[int, ...] = (1, 2, 2, 2),
    dilations: tuple[int, ...] = (1, 1, 1, 1),
    pool_padding: int = 1,
) -> LayeredBackbone:
    """Build a ResNet.

    Args:
        config: taps and channels of the image.
        depth: 18, 34, 50, 101 or 152.
        taps: where ``config`` names none.
        strides: stride of the first block of each stage.
        dilations: of all 3x3 convolutions of each stage.
        pool_padding: of the stem's max-pool.
    """
    layers = _layers(depth, config.in_channels, strides, dilations, pool_padding)
    return LayeredBackbone(layers, config.taps or taps)


for _depth in BLOCKS:
    BACKBONES.register(f"resnet{_depth}")(partial(resnet, depth=_depth))
    # NVIDIA's SSD ends after conv4_x and keeps it at stride 8: its first source is 38x38 at 300.
    BACKBONES.register(f"resnet{_depth}_nvidia")(partial(resnet, depth=_depth, taps=("layer3",), strides=(1, 2, 1, 2)))
    # DSSD (section 3.1) keeps conv5_x at stride 16 and dilates it; its maps 40 and 64 come from an unpadded pool.
    BACKBONES.register(f"resnet{_depth}_dssd")(
        partial(
            resnet,
            depth=_depth,
            taps=("layer2", "layer4"),
            strides=(1, 2, 2, 1),
            dilations=(1, 1, 1, 2),
            pool_padding=0,
        )
    )
