"""Any backbone of timm (the extra ``backbones``), by the name ``timm:<model>``, such as ``timm:convnext_tiny``."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from singleshot.errors import ConfigError, MissingExtraError
from singleshot.models.backbone import Backbone
from singleshot.models.config import BackboneConfig
from singleshot.models.registry import BACKBONES

DEFAULT_STRIDES = (8, 16, 32)


class TimmBackbone(Backbone):
    """A timm model made with ``features_only``.

    Args:
        model: gives a list of maps, finest first; some models give them channels-last.
        channels: of each map.
        strides: of each map.
    """

    def __init__(self, model: nn.Module, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.channels = channels
        self.strides = strides

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image batch ``[B, C, H, W]`` to the maps ``[B, channels[i], h, w]``, finest first."""
        maps = zip(self.model(x), self.channels, strict=True)
        return [y if y.shape[1] == count else y.permute(0, 3, 1, 2) for y, count in maps]


@BACKBONES.register("timm")
def timm_backbone(config: BackboneConfig) -> TimmBackbone:
    """Build a timm model without its weights.

    Taps are timm's names of feature levels (``layer2``, ``stages_1`` ...); by default those of strides 8, 16 and 32.

    Raises:
        MissingExtraError: timm, or something that it needs, is not installed.
        ConfigError: timm has no such model, it has no feature levels, or a tap is not one of them.
    """
    name = config.name.partition(":")[2]
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError(error.name or "timm", "backbones", f"the backbone '{config.name}'") from error
    if not timm.is_model(name):
        raise ConfigError(f"network.backbone.name: timm has no model '{name}'; timm.list_models() names them")
    try:
        whole = timm.create_model(name, features_only=True, pretrained=False, in_chans=config.in_channels)
    except (AttributeError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"network.backbone.name: '{name}' has no feature maps to tap: {error}") from error
    indices = _tapped(whole.feature_info, config)
    info = whole.feature_info
    # Built again so that levels behind the last tap cost nothing.
    model = timm.create_model(
        name, features_only=True, pretrained=False, in_chans=config.in_channels, out_indices=tuple(indices)
    )
    return TimmBackbone(
        model, tuple(info.channels()[index] for index in indices), tuple(info.reduction()[index] for index in indices)
    )


def _tapped(info: Any, config: BackboneConfig) -> list[int]:
    """Positions of the taps among the feature levels."""
    names = list(info.module_name())
    if not config.taps:
        indices = [index for index, stride in enumerate(info.reduction()) if stride in DEFAULT_STRIDES]
        return indices or [len(names) - 1]
    unknown = [tap for tap in config.taps if tap not in names]
    indices = [names.index(tap) for tap in config.taps if tap in names]
    if unknown or indices != sorted(set(indices)):
        raise ConfigError(
            f"network.backbone.taps is {list(config.taps)}: name levels of '{config.name}', finest first: "
            f"{', '.join(names)}"
        )
    return indices
