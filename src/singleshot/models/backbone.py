"""Backbones by name. A backbone is one file in ``backbones/`` with one registered function."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from singleshot.errors import ConfigError
from singleshot.models.config import BackboneConfig


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
                raise ConfigError(f"network.backbone.taps: no layer '{tap}'{_hint(tap, position)}")
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

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image batch ``[B, C, H, W]`` to the tapped maps, finest first."""
        maps = []
        for name, module in self.named_children():
            x = module(x)
            if name in self.taps:
                maps.append(x)
        return maps


BackboneBuilder = Callable[[BackboneConfig], Backbone]
_builders: dict[str, BackboneBuilder] = {}


def register_backbone(name: str) -> Callable[[BackboneBuilder], BackboneBuilder]:
    """Register the decorated function ``(BackboneConfig) -> Backbone`` under a name; may be stacked.

    Raises:
        ValueError: the name is taken.
    """

    def register(builder: BackboneBuilder) -> BackboneBuilder:
        if name in _builders:
            raise ValueError(f"backbone '{name}' is registered twice")
        _builders[name] = builder
        return builder

    return register


def import_submodules(package: str) -> None:
    """Import every module of a package, so that what they register is known."""
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")


@cache
def _import_backbones() -> None:
    import_submodules("singleshot.models.backbones")


def backbone_names() -> tuple[str, ...]:
    """Names of all registered backbones, sorted."""
    _import_backbones()
    return tuple(sorted(_builders))


def build_backbone(config: BackboneConfig) -> Backbone:
    """Build a registered backbone with random weights.

    Raises:
        ConfigError: no backbone of that name, or a tap that it does not have.
    """
    _import_backbones()
    family = config.name.partition(":")[0]  # "timm:convnext_tiny" is built by "timm"
    if family not in _builders:
        raise ConfigError(f"network.backbone.name: no backbone '{config.name}'{_hint(config.name, _builders)}")
    backbone = _builders[family](config)
    for module in backbone.modules():
        if config.batch_norm_eps is not None and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps = config.batch_norm_eps
    return backbone


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {', '.join(close)}?" if close else f"; known: {', '.join(known)}"
