"""SSD's predictors: one convolution each (SSD section 2.1)."""

from __future__ import annotations

from torch import nn

from singleshot.models.config import HeadConfig
from singleshot.models.heads.multibox import MultiBoxHead, head_of_predictors
from singleshot.models.layers import conv2d
from singleshot.models.registry import HEADS


@HEADS.register("conv")
def conv_head(config: HeadConfig, channels: tuple[int, ...], columns: int, eps: float) -> MultiBoxHead:
    """Build predictors of one convolution."""

    def predictor(level: int, in_channels: int, out_channels: int) -> nn.Module:
        return conv2d(in_channels, out_channels, config.kernels[level] if config.kernels else config.kernel)

    return head_of_predictors(config, channels, columns, eps, predictor)
