"""A backbone that its configuration describes layer by layer (imported models)."""

from __future__ import annotations

from torch import Tensor

from singleshot.models.backbone import Backbone
from singleshot.models.config import BackboneConfig
from singleshot.models.graph import LayerGraph
from singleshot.models.registry import BACKBONES


class GraphBackbone(Backbone):
    """The layers of a ``BackboneConfig``, tapped where it says.

    Args:
        config: layers, taps and channels of the image.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.layers = LayerGraph(config.layers, config.in_channels, config.taps)
        self.channels = self.layers.channels
        self.strides = self.layers.strides

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image batch ``[B, C, H, W]`` to the tapped maps, finest first."""
        maps: list[Tensor] = self.layers(x)
        return maps


@BACKBONES.register("graph")
def graph(config: BackboneConfig) -> GraphBackbone:
    """Build what ``config.layers`` describes."""
    return GraphBackbone(config)
