"""VGG16 with its two fully connected layers as convolutions (SSD section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.config import BackboneConfig
from singleshot.models.registry import BACKBONES

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, convolutions) of the five stages."""

CEIL_ALL = (True, True, True, True)
CEIL_POOL3 = (False, False, True, False)


@BACKBONES.register("vgg16_reduced")
def vgg16_reduced(config: BackboneConfig) -> LayeredBackbone:
    """Pool 3 rounds its size up, the others down (ssd.pytorch, lufficc, torchvision, mxnet-ssd)."""
    return _vgg16(config, CEIL_POOL3)


@BACKBONES.register("vgg16_reduced_caffe")
def vgg16_reduced_caffe(config: BackboneConfig) -> LayeredBackbone:
    """Every pooling rounds its size up (Caffe)."""
    return _vgg16(config, CEIL_ALL)


@BACKBONES.register("vgg16_bn")
def vgg16_bn(config: BackboneConfig) -> LayeredBackbone:
    """VGG16-reduced with BatchNorm after each convolution but fc6 and fc7 (ssd.pytorch's ``batch_norm=True``)."""
    return _vgg16(config, CEIL_POOL3, batch_norm=True)


@BACKBONES.register("vgg16_refinedet")
def vgg16_refinedet(config: BackboneConfig) -> LayeredBackbone:
    """Pool 5 halves the map and fc6 is dilated by 3 (RefineDet)."""
    return _vgg16(config, CEIL_POOL3, ("relu4_3", "relu5_3", "relu7"), halve_pool5=True)


def _vgg16(
    config: BackboneConfig,
    ceil: tuple[bool, ...],
    taps: tuple[str, ...] = ("relu4_3", "relu7"),
    *,
    halve_pool5: bool = False,
    batch_norm: bool = False,
) -> LayeredBackbone:
    return LayeredBackbone(_layers(config.in_channels, ceil, halve_pool5, batch_norm), config.taps or taps)


def _layers(in_channels: int, ceil: tuple[bool, ...], halve_pool5: bool, batch_norm: bool) -> Iterator[Layer]:
    """conv1_1, (bn1_1,) relu1_1, ... pool5, fc6, relu6, fc7, relu7."""
    stride = 1
    for stage, (channels, count) in enumerate(STAGES, start=1):
        for index in range(1, count + 1):
            yield Layer(f"conv{stage}_{index}", nn.Conv2d(in_channels, channels, 3, padding=1), channels, stride)
            if batch_norm:
                yield Layer(f"bn{stage}_{index}", nn.BatchNorm2d(channels), channels, stride)
            yield Layer(f"relu{stage}_{index}", nn.ReLU(inplace=True), channels, stride)
            in_channels = channels
        if stage < 5:
            stride *= 2
            yield Layer(f"pool{stage}", nn.MaxPool2d(2, 2, ceil_mode=ceil[stage - 1]), channels, stride)
    stride *= 2 if halve_pool5 else 1
    yield Layer("pool5", nn.MaxPool2d(2, 2) if halve_pool5 else nn.MaxPool2d(3, 1, 1), 512, stride)
    dilation = 3 if halve_pool5 else 6
    yield Layer("fc6", nn.Conv2d(512, 1024, 3, padding=dilation, dilation=dilation), 1024, stride)
    yield Layer("relu6", nn.ReLU(inplace=True), 1024, stride)
    yield Layer("fc7", nn.Conv2d(1024, 1024, 1), 1024, stride)
    yield Layer("relu7", nn.ReLU(inplace=True), 1024, stride)
