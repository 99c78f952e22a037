"""Blocks appended to the backbone; each gives one more, coarser source (SSD section 2.1)."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Protocol

from torch import Tensor, nn

from singleshot.models.config import ExtraBlock
from singleshot.models.layers import ACTIVATIONS, Fire, SqueezeExcite, conv2d, conv_block
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.registry import EXTRAS


class ExtraBuilder(Protocol):
    """What the registry of extra blocks holds."""

    def __call__(self, config: ExtraBlock, in_channels: int, eps: float) -> nn.Module:
        """A module ``[B, in_channels, H, W]`` -> ``[B, config.out_channels, h, w]``.

        Args:
            config: the block.
            in_channels: of the source that it is appended to.
            eps: of its BatchNorms.
        """
        ...


def build_extra(config: ExtraBlock, in_channels: int, eps: float = 1e-5) -> nn.Module:
    """Build one appended block of a registered kind.

    Args:
        config: the block.
        in_channels: of the source that it is appended to.
        eps: of its BatchNorms.

    Returns:
        A module ``[B, in_channels, H, W]`` -> ``[B, config.out_channels, h, w]``.

    Raises:
        ConfigError: no extra block of that kind.
    """
    return EXTRAS.get(config.kind, "network.extras.kind")(config, in_channels, eps)


@EXTRAS.register("single")
def single(config: ExtraBlock, in_channels: int, eps: float) -> nn.Sequential:
    """Build one k x k convolution."""
    return nn.Sequential(OrderedDict(conv=_window(config, in_channels, config.out_channels, eps)))


@EXTRAS.register("conv")
def conv(config: ExtraBlock, in_channels: int, eps: float) -> nn.Sequential:
    """Build 1x1, then k x k (SSD)."""
    blocks = _reduced(config, in_channels, eps)
    blocks["conv"] = _window(config, config.mid_channels, config.out_channels, eps)
    return nn.Sequential(blocks)


@EXTRAS.register("inverted_residual")
@EXTRAS.register("separable")
def separable(config: ExtraBlock, in_channels: int, eps: float) -> nn.Sequential:
    """Build 1x1, depthwise k x k, 1x1 (SSDLite); the last is linear in an inverted residual (MobileNetV2)."""
    mid = config.mid_channels
    act = config.activation
    blocks = _reduced(config, in_channels, eps)
    blocks["depthwise"] = _window(config, mid, mid, eps, groups=mid, activation="none" if config.squeeze else act)
    if config.squeeze:
        blocks["squeeze"] = SqueezeExcite(mid, config.squeeze)
        blocks["act"] = ACTIVATIONS[act]()
    last = "none" if config.kind == "inverted_residual" else act
    blocks["project"] = conv_block(mid, config.out_channels, activation=last, batch_norm=config.batch_norm, eps=eps)
    return nn.Sequential(blocks)


def _reduced(config: ExtraBlock, in_channels: int, eps: float) -> OrderedDict[str, nn.Module]:
    """The first 1x1 convolution, after a SqueezeNet module if there is one."""
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    if config.fire is not None:
        squeeze, expand = config.fire
        blocks["fire"] = Fire(in_channels, squeeze, expand)
        in_channels = 2 * expand
    blocks["reduce"] = conv_block(
        in_channels, config.mid_channels, activation=config.activation, batch_norm=config.batch_norm, eps=eps
    )
    return blocks


def _window(
    config: ExtraBlock, in_channels: int, out_channels: int, eps: float, groups: int = 1, activation: str | None = None
) -> nn.Sequential:
    """The k x k convolution."""
    return conv_block(
        in_channels, out_channels, config.kernel, config.stride, config.padding,
        groups=groups, activation=activation or config.activation, batch_norm=config.batch_norm, eps=eps,
    )  # fmt: skip


@EXTRAS.register("residual")
class ResidualExtra(nn.Module):
    """Bottleneck with a projection shortcut (DSSD section 3.1, RefineDet's res6)."""

    def __init__(self, config: ExtraBlock, in_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        mid, out = config.mid_channels, config.out_channels
        block = partial(conv_block, batch_norm=config.batch_norm, eps=eps)
        # The shortcut is sampled where the k x k convolution is: its kernel is 1, so only the stride carries over
        # when the padding keeps the size; otherwise it takes the same kernel.
        window = (config.kernel, config.stride, config.padding)
        if config.window == "branches":
            self.reduce = block(in_channels, mid, *window, activation=config.activation)
            self.conv = block(mid, mid, 3, 1, 1, activation=config.activation)
        else:
            self.reduce = block(in_channels, mid, activation=config.activation)
            self.conv = block(mid, mid, *window, activation=config.activation)
        keeps_size = config.padding == "same" or config.padding == (config.kernel - 1) / 2
        is_plain = keeps_size and config.window == "middle"
        self.expand = block(mid, out, activation="none")
        self.shortcut = block(in_channels, out, *((1, config.stride, 0) if is_plain else window), activation="none")
        self.act = ACTIVATIONS[config.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, out, h, w]``."""
        out: Tensor = self.act(self.expand(self.conv(self.reduce(x))) + self.shortcut(x))
        return out


@EXTRAS.register("residual_preact")
class PreactResidualExtra(nn.Module):
    """Pre-activation bottleneck with a strided 1x1 shortcut from its first activation (mxnet-dssd's residual unit)."""

    def __init__(self, config: ExtraBlock, in_channels: int, eps: float = 2e-5) -> None:
        super().__init__()
        mid, out = config.mid_channels, config.out_channels
        self.bn1 = MXNetBatchNorm2d(in_channels, eps, fixed_gamma=False)
        self.conv1 = conv2d(in_channels, mid, bias=False)
        self.bn2 = MXNetBatchNorm2d(mid, eps, fixed_gamma=False)
        self.conv2 = conv2d(mid, mid, config.kernel, config.stride, config.padding, bias=False)
        self.bn3 = MXNetBatchNorm2d(mid, eps, fixed_gamma=False)
        self.conv3 = conv2d(mid, out, bias=False)
        self.shortcut = conv2d(in_channels, out, 1, config.stride, 0, bias=False)
        self.act = ACTIVATIONS[config.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, out, h, w]``."""
        x = self.act(self.bn1(x))
        y = self.act(self.bn2(self.conv1(x)))
        y = self.act(self.bn3(self.conv2(y)))
        out: Tensor = self.conv3(y) + self.shortcut(x)
        return out
