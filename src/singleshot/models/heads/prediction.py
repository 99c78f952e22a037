"""Modules between a feature map and its two predictors (DSSD figure 2; mxnet-ssd's ``interm_layer``)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from singleshot.models.config import HeadConfig
from singleshot.models.layers import conv2d, conv_block
from singleshot.models.registry import PREDICTION_MODULES


class PredictionModule(nn.Module):
    """Turns a map into the one that both predictors read.

    Attributes:
        out_channels: of the result.
    """

    out_channels: int


class ResidualPrediction(PredictionModule):
    """Three convolutions beside a skip path (DSSD figure 2 b and c).

    Args:
        in_channels: of the map.
        out_channels: of the result; the inner convolutions have a quarter of it.
        project: the skip path is a 1x1 convolution (c), else the map itself (b).
        eps: of the BatchNorms.
        kernel: of the middle convolution: 1 in DSSD, 3 in RefineDet.
    """

    def __init__(self, in_channels: int, out_channels: int, project: bool, eps: float, kernel: int = 1) -> None:
        super().__init__()
        inner = out_channels // 4
        self.out_channels = out_channels
        self.conv1 = conv_block(in_channels, inner, eps=eps)
        self.conv2 = conv_block(inner, inner, kernel, eps=eps)
        self.conv3 = conv_block(inner, out_channels, activation="none", eps=eps)
        self.skip = conv_block(in_channels, out_channels, activation="none", eps=eps) if project else nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` -> ``[B, out_channels, h, w]``."""
        out: Tensor = self.act(self.conv3(self.conv2(self.conv1(x))) + self.skip(x))
        return out


class LinearPrediction(PredictionModule):
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


class PredictionModuleBuilder(Protocol):
    """What the registry of prediction modules holds."""

    def __call__(self, config: HeadConfig, in_channels: int, eps: float) -> Sequence[PredictionModule]:
        """Modules that run one after the other.

        Args:
            config: its options.
            in_channels: of the map.
            eps: of its BatchNorms.
        """
        ...


@PREDICTION_MODULES.register("none")
def none(config: HeadConfig, in_channels: int, eps: float) -> list[PredictionModule]:
    """Build nothing: SSD, (a) of the figure."""
    return []


@PREDICTION_MODULES.register("b")
def identity_skip(config: HeadConfig, in_channels: int, eps: float) -> list[PredictionModule]:
    """Build (b): the skip path is the map itself, so its width decides."""
    return [ResidualPrediction(in_channels, in_channels, False, eps)]


@PREDICTION_MODULES.register("c")
def projected_skip(config: HeadConfig, in_channels: int, eps: float) -> list[PredictionModule]:
    """Build (c)."""
    return [ResidualPrediction(in_channels, config.module_channels, True, eps)]


@PREDICTION_MODULES.register("d")
def projected_skip_twice(config: HeadConfig, in_channels: int, eps: float) -> list[PredictionModule]:
    """Build (d): (c) twice."""
    return [
        ResidualPrediction(width, config.module_channels, True, eps) for width in (in_channels, config.module_channels)
    ]


@PREDICTION_MODULES.register("residual")
def residual(config: HeadConfig, in_channels: int, eps: float) -> list[PredictionModule]:
    """Build (c) with a 3x3 convolution in the middle (RefineDet)."""
    return [ResidualPrediction(in_channels, config.module_channels, True, eps, kernel=3)]


@PREDICTION_MODULES.register("mxnet")
def mxnet(config: HeadConfig, in_channels: int, eps: float) -> list[PredictionModule]:
    """Build mxnet-dssd's, which keeps the width of the map, whatever ``module_channels`` says."""
    return [LinearPrediction(in_channels, in_channels)]


class _Chain(nn.Sequential):
    """A sequence that tells its output channels."""

    def __init__(self, parts: OrderedDict[str, nn.Module], out_channels: int) -> None:
        super().__init__(parts)
        self.out_channels = out_channels


def build_prediction_module(config: HeadConfig, in_channels: int, eps: float = 1e-5, level: int = 0) -> nn.Module:
    """Build what stands before both predictors of a map; ``nn.Identity`` when nothing does.

    Args:
        config: which module, and which levels have it.
        in_channels: of the map.
        eps: of its BatchNorms.
        level: of the map, 0 is the finest.

    Raises:
        ConfigError: no prediction module of that name.
    """
    build = PREDICTION_MODULES.get(config.prediction_module, "network.head.prediction_module")
    has_module = not config.module_levels or config.module_levels[level]
    modules = build(config, in_channels, eps) if has_module else ()
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for index, module in enumerate(modules, 1):
        parts[f"module{index}" if index > 1 else "module"] = module
    out = int(modules[-1].out_channels) if modules else in_channels
    if config.intermediate_channels:
        parts["intermediate"] = conv_block(out, config.intermediate_channels, 3, batch_norm=False)
        out = config.intermediate_channels
    return _Chain(parts, out) if parts else nn.Identity()
