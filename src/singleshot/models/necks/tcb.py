"""RefineDet's transfer connection blocks (arXiv 1711.06897, figure 2)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from singleshot.errors import ConfigError
from singleshot.models.config import NeckConfig
from singleshot.models.layers import conv_block
from singleshot.models.necks.top_down import TopDownNeck, cut_to, upsample
from singleshot.models.registry import NECKS

PAPER_CHANNELS = 256


class TransferConnection(nn.Module):
    """Carry a source to the second stage and add what the deeper level knows.

    Args:
        lateral_channels: of the source.
        channels: of the result and of the deeper result.
        batch_norm: BatchNorm after every convolution (RefineDet ResNet).
        deconvolution_norm: BatchNorm after the transposed one, too.
        eps: of the BatchNorms.
    """

    def __init__(
        self, lateral_channels: int, channels: int, *, batch_norm: bool, deconvolution_norm: bool, eps: float
    ) -> None:
        super().__init__()
        self.before = _before(lateral_channels, channels, batch_norm, eps)
        self.deconvolution = nn.ConvTranspose2d(channels, channels, 2, 2, bias=not deconvolution_norm)
        self.norm = nn.BatchNorm2d(channels, eps=eps) if deconvolution_norm else nn.Identity()
        self.after = _after(channels, batch_norm, eps)

    def forward(self, deep: Tensor, lateral: Tensor) -> Tensor:
        """``[B, channels, h, w]`` and ``[B, L, H, W]`` to ``[B, channels, H, W]``."""
        summed = self.before(lateral) + cut_to(self.norm(upsample(self.deconvolution, deep, lateral)), lateral)
        out: Tensor = self.after(summed)
        return out


def _before(lateral_channels: int, channels: int, batch_norm: bool, eps: float) -> nn.Sequential:
    first = conv_block(lateral_channels, channels, 3, batch_norm=batch_norm, eps=eps)
    second = conv_block(channels, channels, 3, batch_norm=batch_norm, eps=eps, activation="none")
    return nn.Sequential(OrderedDict(first=first, second=second))


def _after(channels: int, batch_norm: bool, eps: float) -> nn.Sequential:
    conv = conv_block(channels, channels, 3, batch_norm=batch_norm, eps=eps)
    return nn.Sequential(OrderedDict(relu=nn.ReLU(inplace=True), conv=conv))


@NECKS.register("tcb")
def build_tcb(config: NeckConfig, channels: tuple[int, ...], eps: float) -> TopDownNeck:
    """Build one transfer connection block per source; the deepest one has nothing to add.

    Raises:
        ConfigError: ``levels`` leaves some out.
    """
    if not all(config.levels):
        raise ConfigError(f"network.neck.levels is {list(config.levels)}, but in neck 'tcb' every level takes part")
    width = config.channels or PAPER_CHANNELS
    deepest = nn.Sequential(
        OrderedDict(
            before=_before(channels[-1], width, config.batch_norm, eps), after=_after(width, config.batch_norm, eps)
        )
    )
    merges = [
        TransferConnection(
            count, width, batch_norm=config.batch_norm, deconvolution_norm=config.deconvolution_norm, eps=eps
        )
        for count in channels[:-1]
    ]
    return TopDownNeck(deepest, merges, (width,) * len(channels))
