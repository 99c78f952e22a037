"""What happens between the sources and the heads. A neck is one file here with one registered function."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import Tensor, nn

from singleshot.errors import ConfigError
from singleshot.models.backbone import import_submodules
from singleshot.models.config import NeckConfig


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


NeckBuilder = Callable[[NeckConfig, tuple[int, ...], float], Neck]
_builders: dict[str, NeckBuilder] = {"none": lambda config, channels, eps: NoNeck(channels)}


def register_neck(kind: str) -> Callable[[NeckBuilder], NeckBuilder]:
    """Register the decorated function ``(config, source channels, BatchNorm eps) -> Neck`` under a kind."""

    def register(builder: NeckBuilder) -> NeckBuilder:
        if kind in _builders:
            raise ValueError(f"neck '{kind}' is registered twice")
        _builders[kind] = builder
        return builder

    return register


@cache
def _import_necks() -> None:
    import_submodules("singleshot.models.necks")


def build_neck(config: NeckConfig, channels: tuple[int, ...], eps: float) -> Neck:
    """Build a registered neck with random weights.

    Args:
        config: which one, and its options.
        channels: of the sources, finest first.
        eps: of its BatchNorms.

    Raises:
        ConfigError: no neck of that kind.
    """
    _import_necks()
    if config.kind not in _builders:
        raise ConfigError(f"network.neck.kind: no neck '{config.kind}'; known: {', '.join(sorted(_builders))}")
    return _builders[config.kind](config, channels, eps)
