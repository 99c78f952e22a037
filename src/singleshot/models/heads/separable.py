"""SSDLite's predictors: a depthwise 3x3 convolution, then 1x1 (arXiv 1801.04381, section 6.2)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from singleshot.models.config import HeadConfig
from singleshot.models.heads.multibox import MultiBoxHead, head_of_predictors
from singleshot.models.layers import conv2d, conv_block
from singleshot.models.registry import HEADS


@HEADS.register("separable")
def separable_head(config: HeadConfig, channels: tuple[int, ...], columns: int, eps: float) -> MultiBoxHead:
    """Build separable predictors; the last map's is a plain 1x1 convolution where ``config.last_plain``."""

    def predictor(level: int, in_channels: int, out_channels: int) -> nn.Module:
        pointwise = conv2d(in_channels, out_channels, 1)
        if config.last_plain and level == len(channels) - 1:
            return pointwise
        depthwise = conv_block(
            in_channels,
            in_channels,
            3,
            groups=in_channels,
            batch_norm=config.depthwise_norm,
            activation=config.activation,
            eps=eps,
            bias=config.depthwise_bias or not config.depthwise_norm,
        )
        return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))

    return head_of_predictors(config, channels, columns, eps, predictor)
