"""Modules between a feature map and its two predictors (DSSD figure 2; mxnet-ssd's ``interm_layer``)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from singleshot.models.config import HeadConfig
from singleshot.models.layers import conv2d, conv_block


class ResidualPrediction(nn.Module):
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


def build_prediction_module(config: HeadConfig, in_channels: int, eps: float = 1e-5, level: int = 0) -> nn.Module:
    """Build what stands before both predictors of a map; ``nn.Identity`` when nothing does.

    Args:
        config: which module, and which levels have it.
        in_channels: of the map.
        eps: of its BatchNorms.
        level: of the map, 0 is the finest.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    has_module = config.prediction_module != "none" and (not config.module_levels or config.module_levels[level])
    if has_module:
        parts.update(_modules(config, in_channels, eps))
    out = getattr(next(reversed(parts.values()), None), "out_channels", in_channels)
    if config.intermediate_channels:
        parts["intermediate"] = conv_block(out, config.intermediate_channels, 3, batch_norm=False)
        out = config.intermediate_channels
    return _Chain(parts, out) if parts else nn.Identity()


def _modules(config: HeadConfig, in_channels: int, eps: float) -> dict[str, nn.Module]:
    out = config.module_channels
    if config.prediction_module == "mxnet":
        # mxnet-dssd keeps the width of the map, whatever ``module_channels`` says.
        return {"module": LinearPrediction(in_channels, in_channels)}
    if config.prediction_module == "b":
        # The skip path is the map itself, so its width decides.
        return {"module": ResidualPrediction(in_channels, in_channels, False, eps)}
    if config.prediction_module == "residual":
        return {"module": ResidualPrediction(in_channels, out, True, eps, kernel=3)}
    modules: dict[str, nn.Module] = {"module": ResidualPrediction(in_channels, out, True, eps)}
    if config.prediction_module == "d":
        modules["module2"] = ResidualPrediction(out, out, True, eps)
    return modules
