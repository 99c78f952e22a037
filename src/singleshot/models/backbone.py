"""What a backbone is: the base of all, and the chain of named layers that most of them are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, takewhile
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from singleshot.core.wording import similar
from singleshot.errors import ConfigError
from singleshot.models.config import BackboneConfig
from singleshot.models.registry import BACKBONES


class Backbone(nn.Module):
    """A feature extractor.

    Attributes:
        channels: of each output map, finest first.
        strides: input pixels per cell of each output map.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def in_channels(self) -> int:
        """Channels of the images that it reads."""
        return next(weight.shape[1] for weight in self.parameters() if weight.ndim == 4)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image batch ``[B, C, H, W]`` to feature maps ``[B, channels[i], h, w]``, finest first."""
        raise NotImplementedError


class Layer(NamedTuple):
    """One named layer of a ``LayeredBackbone`` and what its output looks like."""

    name: str
    module: nn.Module
    channels: int
    stride: int


class LayeredBackbone(Backbone):
    """A chain of named layers, any of which can be tapped; layers after the last tap are not kept.

    A ``nn.ReLU`` layer works in place unless the layer before it is tapped.

    Args:
        layers: the chain, in order; names become parameter names (``backbone.<name>...``).
        taps: names of the layers whose outputs are returned, finest first.

    Raises:
        ConfigError: a tap is no layer, or the taps are not in the chain's order.
    """

    def __init__(self, layers: Iterable[Layer], taps: Sequence[str]) -> None:
        super().__init__()
        chain = list(layers)
        position = {layer.name: index for index, layer in enumerate(chain)}
        for tap in taps:
            if tap not in position:
                raise ConfigError(f"network.backbone.taps: no layer '{tap}'; {similar(tap, position)}")
        order = [position[tap] for tap in taps]
        if not order or order != sorted(set(order)):
            raise ConfigError(f"network.backbone.taps: {tuple(taps)} must name one or more layers from fine to coarse")
        for previous, layer in pairwise(chain):
            if isinstance(layer.module, nn.ReLU):
                layer.module.inplace = previous.name not in taps
        for layer in chain[: order[-1] + 1]:
            self.add_module(layer.name, layer.module)
        self.taps = tuple(taps)
        self.channels = tuple(chain[index].channels for index in order)
        self.strides = tuple(chain[index].stride for index in order)
        self._layer_strides = {layer.name: layer.stride for layer in chain[: order[-1] + 1]}

    def layers_up_to(self, stride: int) -> list[str]:
        """Names of the first layers, as far as their maps have no more than ``stride`` pixels a cell."""
        return list(takewhile(lambda name: self._layer_strides[name] <= stride, self._layer_strides))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image batch ``[B, C, H, W]`` to the tapped maps, finest first."""
        maps = []
        for name, module in self.named_children():
            x = module(x)
            if name in self.taps:
                maps.append(x)
        return maps


class BackboneBuilder(Protocol):
    """What the registry of backbones holds."""

    def __call__(self, config: BackboneConfig) -> Backbone:
        """A backbone with random weights.

        Raises:
            ConfigError: a tap that it does not have.
        """
        ...


def build_backbone(config: BackboneConfig) -> Backbone:
    """Build a registered backbone with random weights.

    Raises:
        ConfigError: no backbone of that name, or a tap that it does not have.
    """
    family = config.name.partition(":")[0]  # "timm:convnext_tiny" is built by "timm"
    backbone = BACKBONES.get(family, "network.backbone.name")(config)
    for module in backbone.modules():
        if config.batch_norm_eps is not None and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps = config.batch_norm_eps
    return backbone
