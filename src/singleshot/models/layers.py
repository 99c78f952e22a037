"""Small layers that every network is made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from singleshot.models.config import L2NormConfig
from singleshot.models.fast_norm import ConvBlock

Padding = int | Literal["same"]
"""Symmetric zero padding in pixels, or TensorFlow's ``SAME``."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
    "swish": lambda: nn.SiLU(inplace=True),
}

NORM_EPS = 1e-10
"""Added to L2 norms so that a zero vector stays zero (Caffe, MXNet, ssd.pytorch)."""


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Zeros before and after one axis so that the output has ``ceil(size / stride)`` cells (TensorFlow's ``SAME``)."""
    reach = dilation * (kernel - 1) + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def map_size(x: Tensor) -> tuple[int, int]:
    """Height and width of a map ``[B, C, H, W]``; while a graph is traced numbers, not operations of the graph.

    Every traced network has one input size, and a runtime fuses only padding that it knows.
    """
    height, width = x.shape[2:]
    is_traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return (int(height), int(width)) if is_traced else (height, width)


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's ``SAME``: an odd zero goes to the bottom and right."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, out, ceil(H / stride), ceil(W / stride)]``."""
        (top, bottom), (left, right) = map(same_padding, map_size(x), self.kernel_size, self.stride, self.dilation)
        if (top, left) == (bottom, right):
            return functional.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        x = functional.pad(x, (left, right, top, bottom), value=0.0)  # said, else ONNX Runtime does not fuse it
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    stride: int = 1,
    padding: Padding | None = None,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
) -> nn.Conv2d:
    """A square convolution; ``padding=None`` keeps the size at stride 1 (odd kernels)."""
    if padding == "same":
        return SameConv2d(in_channels, out_channels, kernel, stride, 0, dilation, groups, bias)
    if padding is None:
        padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias)


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    stride: int = 1,
    padding: Padding | None = None,
    *,
    dilation: int = 1,
    groups: int = 1,
    batch_norm: bool = True,
    activation: str = "relu",
    eps: float = 1e-5,
    bias: bool | None = None,
) -> nn.Sequential:
    """Convolution, BatchNorm, activation, as children ``conv``, ``bn``, ``act``; absent parts have no child.

    Args:
        in_channels, out_channels, kernel, stride, padding, dilation, groups: of the convolution, see ``conv2d``.
        batch_norm: whether BatchNorm follows.
        activation: a key of ``ACTIVATIONS``.
        eps: of the BatchNorm.
        bias: of the convolution; ``None`` gives one exactly when no BatchNorm follows.
    """
    bias = not batch_norm if bias is None else bias
    children: OrderedDict[str, nn.Module] = OrderedDict()
    children["conv"] = conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias)
    if batch_norm:
        children["bn"] = nn.BatchNorm2d(out_channels, eps=eps)
    if activation != "none":
        children["act"] = ACTIVATIONS[activation]()
    return ConvBlock(children)


class L2Norm(nn.Module):
    """L2 normalisation over channels with a learned scale per channel (ParseNet; SSD section 3.1).

    Args:
        channels: of the input.
        init: first value of the scale.
        eps: where the guard against division by zero stands, see ``L2NormConfig``.
    """

    def __init__(self, channels: int, init: float = 20.0, eps: Literal["inside", "outside", "max"] = "inside") -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), init))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        squares = (x * x).sum(dim=1, keepdim=True)
        if self.eps == "inside":
            x = x * torch.rsqrt(squares + NORM_EPS)
        elif self.eps == "outside":
            x = x / (squares.sqrt() + NORM_EPS)
        else:
            x = x / squares.sqrt().clamp(min=1e-12)  # torch.nn.functional.normalize's own guard
        return x * self.scale[:, None, None]


def build_norms(configs: Sequence[L2NormConfig | None], channels: Sequence[int]) -> list[nn.Module]:
    """One module per map, finest first: what ``configs`` says, identity for the rest.

    Args:
        configs: at most one entry per map.
        channels: of the maps.
    """
    norms: list[nn.Module] = [nn.Identity() for _ in channels]
    for level, config in enumerate(configs):
        if config is not None:
            norms[level] = (
                nn.BatchNorm2d(channels[level])
                if config.batch_norm
                else L2Norm(channels[level], config.init, config.eps)
            )
    return norms


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the means of all channels (arXiv 1709.01507).

    Args:
        channels: of the input.
        squeeze: of the layer between.
        activation: of that layer, a key of ``ACTIVATIONS``.
        gate: ``hardsigmoid`` (MobileNetV3) or ``sigmoid`` (EfficientNet).
    """

    def __init__(
        self,
        channels: int,
        squeeze: int,
        activation: str = "relu",
        gate: Literal["hardsigmoid", "sigmoid"] = "hardsigmoid",
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.act = ACTIVATIONS[activation]()
        self.fc2 = nn.Conv2d(squeeze, channels, 1)
        self.gate = nn.Hardsigmoid() if gate == "hardsigmoid" else nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        gates: Tensor = self.gate(self.fc2(self.act(self.fc1(self.pool(x)))))
        return x * gates


class Fire(nn.Module):
    """SqueezeNet's module: 1x1, then 1x1 and 3x3 side by side, each with ReLU (arXiv 1602.07360, section 3.2).

    Args:
        in_channels: of the input.
        squeeze: channels of the first convolution.
        expand: channels of each of the other two; the output has twice as many.
    """

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = conv2d(in_channels, squeeze)
        self.expand1x1 = conv2d(squeeze, expand)
        self.expand3x3 = conv2d(squeeze, expand, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, 2 * expand, H, W]``."""
        x = self.act(self.squeeze(x))
        return torch.cat([self.act(self.expand1x1(x)), self.act(self.expand3x3(x))], dim=1)
