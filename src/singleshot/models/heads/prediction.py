"""Modules between a feature map and its two predictors (DSSD figure 2; mxnet-ssd's ``interm_layer``)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from singleshot.errors import ConfigError
from singleshot.models.config import HeadConfig
from singleshot.models.layers import conv2d, conv_block


class ResidualPrediction(nn.Module):
    """Three 1x1 convolutions beside a skip path (DSSD figure 2 b and c).

    Args:
        in_channels: of the map.
        out_channels: of the result; the inner convolutions have a quarter of it.
        project: the skip path is a 1x1 convolution (c), else the map itself (b).
        eps: of the BatchNorms.
    """

    def __init__(self, in_channels: int, out_channels: int, project: bool, eps: float) -> None:
        super().__init__()
        inner = out_channels // 4
        self.out_channels = out_channels
        self.conv1 = conv_block(in_channels, inner, eps=eps)
        self.conv2 = conv_block(inner, inner, eps=eps)
        self.conv3 = conv_block(inner, out_channels, activation="none", eps=eps)
        self.skip = conv_block(in_channels, out_channels, activation="none", eps=eps) if project else nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` -> ``[B, out_channels, h, w]``."""
        out: Tensor = self.act(self.conv3(self.conv2(self.conv1(x))) + self.skip(x))
        return out


class LinearPrediction(nn.Module):
    """mxnet-dssd's form: two branches from the same 1x1 chain are added; no BatchNorm, no activation, no input skip."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.conv1 = conv2d(in_channels, out_channels // 4)
        self.conv2 = conv2d(out_channels // 4, out_channels // 4)
        self.conv3 = conv2d(out_channels // 4, out_channels)
        self.skip = conv2d(out_channels // 4, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` -> ``[B, out_channels, h, w]``."""
        x = self.conv2(self.conv1(x))
        out: Tensor = self.conv3(x) + self.skip(x)
        return out


class _Chain(nn.Sequential):
    """A sequence that tells its output channels."""

    def __init__(self, parts: OrderedDict[str, nn.Module], out_channels: int) -> None:
        super().__init__(parts)
        self.out_channels = out_channels


def build_prediction_module(config: HeadConfig, in_channels: int, eps: float = 1e-5) -> nn.Module:
    """Build what stands before both predictors of a map; ``nn.Identity`` when nothing does.

    Raises:
        ConfigError: module ``b`` needs maps of ``module_channels`` channels, since its skip path is the map itself.
    """
    out = config.module_channels
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if config.prediction_module == "b" and in_channels != out:
        raise ConfigError(
            f"network.head.prediction_module 'b' adds the map itself: it needs maps of {out} channels "
            f"(network.head.module_channels), not {in_channels}; use 'c'"
        )
    if config.prediction_module in ("b", "c", "d"):
        parts["module"] = ResidualPrediction(in_channels, out, config.prediction_module != "b", eps)
    if config.prediction_module == "d":
        parts["module2"] = ResidualPrediction(out, out, True, eps)
    if config.prediction_module == "mxnet":
        # mxnet-dssd keeps the width of the map, whatever ``module_channels`` says.
        out = in_channels
        parts["module"] = LinearPrediction(in_channels, out)
    if config.intermediate_channels:
        width = out if parts else in_channels
        out = config.intermediate_channels
        parts["intermediate"] = conv_block(width, out, 3, batch_norm=False)
    return _Chain(parts, out) if parts else nn.Identity()
