"""What a neck is: what happens between the sources and the heads. Each neck is one file in ``necks``."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from singleshot.models.config import NeckConfig
from singleshot.models.registry import NECKS


class Neck(nn.Module):
    """Turns the sources into the maps that the heads read.

    Attributes:
        channels: of each output map, finest first.
    """

    channels: tuple[int, ...]

    def forward(self, sources: list[Tensor]) -> list[Tensor]:
        """Sources ``[B, C_i, h_i, w_i]``, finest first, to as many maps of the same sizes."""
        raise NotImplementedError


class NoNeck(Neck):
    """The heads read the sources (SSD)."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, sources: list[Tensor]) -> list[Tensor]:
        """The sources themselves."""
        return sources


class NeckBuilder(Protocol):
    """What the registry of necks holds."""

    def __call__(self, config: NeckConfig, channels: tuple[int, ...], eps: float) -> Neck:
        """A neck with random weights.

        Args:
            config: its options.
            channels: of the sources, finest first.
            eps: of its BatchNorms.
        """
        ...


@NECKS.register("none")
def no_neck(config: NeckConfig, channels: tuple[int, ...], eps: float) -> NoNeck:
    """Build what changes nothing."""
    return NoNeck(channels)


def build_neck(config: NeckConfig, channels: tuple[int, ...], eps: float) -> Neck:
    """Build a registered neck with random weights.

    Args:
        config: which one, and its options.
        channels: of the sources, finest first.
        eps: of its BatchNorms.

    Raises:
        ConfigError: no neck of that kind, or options that do not fit the sources.
    """
    return NECKS.get(config.kind, "network.neck.kind")(config, channels, eps)
