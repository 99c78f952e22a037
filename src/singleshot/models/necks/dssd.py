"""DSSD's deconvolution modules (arXiv 1701.06659, figure 3), by the paper and as mxnet-dssd has them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from singleshot.errors import ConfigError
from singleshot.models.config import NeckConfig
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.necks.top_down import PassLateral, TopDownNeck, cut_to, taking_part, upsample
from singleshot.models.registry import NECKS

PAPER_CHANNELS = 512
"""Width of figure 3."""

Fusion = Literal["product", "sum"]


class DeconvolutionModule(nn.Module):
    """Join a deep map, up-sampled by a learned deconvolution, with a lateral map (figure 3).

    Args:
        deep_channels: of the deeper result.
        lateral_channels: of this level's source.
        channels: of the result.
        upsampling: (kernel, stride) of the deconvolution.
        fusion: element product (the paper's choice) or sum.
        norm: makes the normalisation of so many channels.
        bias: biases in the 3x3 convolutions (mxnet-dssd), although BatchNorm follows.
        deconvolution_bias: a bias in the deconvolution (DSSD's scripts).
    """

    def __init__(
        self,
        deep_channels: int,
        lateral_channels: int,
        channels: int,
        upsampling: tuple[int, int],
        fusion: Fusion,
        norm: Callable[[int], nn.Module],
        *,
        bias: bool,
        deconvolution_bias: bool = False,
    ) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=bias)
        self.deconvolution = nn.ConvTranspose2d(deep_channels, channels, *upsampling, bias=deconvolution_bias)
        self.deep = nn.Sequential(OrderedDict(conv=conv(channels, channels), bn=norm(channels)))
        self.lateral = nn.Sequential(
            OrderedDict(
                conv1=conv(lateral_channels, channels),
                bn1=norm(channels),
                relu=nn.ReLU(inplace=True),
                conv2=conv(channels, channels),
                bn2=norm(channels),
            )
        )
        self.fusion = fusion
        self.relu = nn.ReLU(inplace=True)

    def forward(self, deep: Tensor, lateral: Tensor) -> Tensor:
        """``[B, D, h, w]`` and ``[B, L, H, W]`` to ``[B, channels, H, W]``."""
        # BatchNorm's statistics see what is cut off, as in mxnet-dssd.
        deep = cut_to(self.deep(upsample(self.deconvolution, deep, lateral)), lateral)
        lateral = self.lateral(lateral)
        merged: Tensor = self.relu(deep * lateral if self.fusion == "product" else deep + lateral)
        return merged


@NECKS.register("dssd")
def build_dssd(config: NeckConfig, channels: tuple[int, ...], eps: float) -> TopDownNeck:
    """Build one deconvolution module per level that takes part; the deepest map stays as it is.

    The paper's modules are ``config.channels`` wide (512). mxnet-dssd's take the channels of the next deeper source,
    and its BatchNorms have a fixed gamma and their own eps.

    Raises:
        ConfigError: ``levels`` or ``upsampling`` do not fit the sources.
    """
    below = len(channels) - 1
    parts = taking_part(config.levels, len(channels), [True] * below)
    upsampling = config.upsampling or ((2, 2),) * below
    if len(upsampling) != below:
        raise ConfigError(
            f"network.neck.upsampling has {len(upsampling)} entries: give one for each of the {below} steps between "
            f"{len(channels)} sources"
        )
    mxnet = config.dialect == "mxnet"
    norm: Callable[[int], nn.Module] = MXNetBatchNorm2d if mxnet else partial(nn.BatchNorm2d, eps=eps)
    merges: list[nn.Module] = [PassLateral() for _ in range(below)]
    out = list(channels)
    for level in reversed(range(below)):
        if parts[level]:
            out[level] = config.channels or (channels[level + 1] if mxnet else PAPER_CHANNELS)
            merges[level] = DeconvolutionModule(
                out[level + 1],
                channels[level],
                out[level],
                upsampling[level],
                config.fusion,
                norm,
                bias=mxnet,
                deconvolution_bias=config.deconvolution_bias,
            )
    return TopDownNeck(nn.Identity(), merges, tuple(out))
