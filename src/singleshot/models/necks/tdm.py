"""Top-down modulation (arXiv 1612.06851), with the paper's output convolution and as mxnet-dssd has it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from singleshot.models.config import NeckConfig
from singleshot.models.layers import build_norms
from singleshot.models.necks.dssd import build_dssd
from singleshot.models.necks.top_down import ChainedNecks, PassLateral, TopDownNeck, repeat_to, taking_part
from singleshot.models.registry import NECKS

PAPER_CHANNELS = 512
MXNET_PASSING = 3
"""mxnet-dssd lets the three deepest levels pass."""


class TopDownModule(nn.Module):
    """Concatenate a lateral map with an up-sampled deep one, each thinned by a 3x3 convolution.

    Args:
        deep_channels: of the deeper result.
        lateral_channels: of this level's source.
        channels: of the concatenation: one half from each side.
        output_conv: end with a 1x1 convolution.
    """

    def __init__(self, deep_channels: int, lateral_channels: int, channels: int, *, output_conv: bool) -> None:
        super().__init__()
        self.deep = nn.Conv2d(deep_channels, channels // 2, 3, padding=1)
        self.lateral = nn.Conv2d(lateral_channels, channels - channels // 2, 3, padding=1)
        self.output = nn.Conv2d(channels, channels, 1) if output_conv else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, deep: Tensor, lateral: Tensor) -> Tensor:
        """``[B, D, h, w]`` and ``[B, L, H, W]`` to ``[B, channels, H, W]``."""
        deep = self.relu(self.deep(deep))
        lateral = self.relu(self.lateral(lateral))
        merged = torch.cat([lateral, repeat_to(deep, lateral)], dim=1)
        return merged if self.output is None else self.relu(self.output(merged))


@NECKS.register("tdm")
def build_tdm(config: NeckConfig, channels: tuple[int, ...], eps: float) -> TopDownNeck | ChainedNecks:
    """Build one top-down module per level that takes part; the deepest map stays as it is.

    The paper's form is ``config.channels`` wide (512) and has an output convolution. mxnet-dssd keeps the channels of
    every source and has none; it normalises behind TDM (``config.l2_norms``).
    """
    mxnet = config.dialect == "mxnet"
    below = len(channels) - 1
    passing = MXNET_PASSING - 1 if mxnet else 0
    parts = taking_part(config.levels, len(channels), [level < below - passing for level in range(below)])
    merges: list[nn.Module] = [PassLateral() for _ in range(below)]
    out = list(channels)
    for level in reversed(range(below)):
        if parts[level]:
            out[level] = config.channels or (channels[level] if mxnet else PAPER_CHANNELS)
            merges[level] = TopDownModule(
                out[level + 1], channels[level], out[level], output_conv=config.output_conv and not mxnet
            )
    neck = TopDownNeck(nn.Identity(), merges, tuple(out))
    return ChainedNecks([neck], build_norms(config.l2_norms, neck.channels)) if config.l2_norms else neck


@NECKS.register("tdm_dssd")
def build_tdm_dssd(config: NeckConfig, channels: tuple[int, ...], eps: float) -> ChainedNecks:
    """Build TDM, normalisation, then DSSD: what mxnet-dssd runs when asked for TDM. ``levels`` are DSSD's."""
    tdm = build_tdm(config.model_copy(update={"l2_norms": (), "levels": ()}), channels, eps)
    dssd = build_dssd(config, tdm.channels, eps)
    return ChainedNecks([tdm, dssd], build_norms(config.l2_norms, tdm.channels))
