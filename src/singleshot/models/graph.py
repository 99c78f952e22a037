"""Networks described layer by layer: modules made of ``GraphLayer`` records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from singleshot.errors import ConfigError
from singleshot.models.config import GraphLayer
from singleshot.models.layers import L2Norm

INPUT = ""
"""Name of what a graph reads."""


class Step(NamedTuple):
    """One layer's turn: which maps it reads, and which nobody reads after it."""

    name: str
    inputs: tuple[str, ...]
    forget: tuple[str, ...]


class LayerGraph(nn.Module):
    """Runs layers in order, each on the outputs of earlier ones.

    Args:
        layers: in an order that works.
        in_channels: of what the graph reads.
        outputs: names of the layers whose outputs are returned.

    Raises:
        ConfigError: a layer reads what is not there, or has no channels.

    Attributes:
        channels: of each output.
        strides: input cells per cell of each output.
    """

    def __init__(self, layers: Sequence[GraphLayer], in_channels: int, outputs: Sequence[str]) -> None:
        super().__init__()
        widths, strides = {INPUT: in_channels}, {INPUT: 1}
        for layer in layers:
            missing = [name for name in layer.inputs if name not in widths]
            if missing or layer.name in widths or not layer.inputs:
                raise ConfigError(f"layer '{layer.name}' of the graph reads {missing or 'nothing'}, or comes twice")
            read = [widths[name] for name in layer.inputs]
            self.add_module(layer.name, _build(layer, read))
            widths[layer.name] = _width(layer, read)
            strides[layer.name] = _stride(layer, strides[layer.inputs[0]])
        absent = [name for name in outputs if name not in widths]
        if absent:
            raise ConfigError(f"network.backbone.taps: the graph has no layer {', '.join(absent)}")
        self.outputs = tuple(outputs)
        self.channels = tuple(widths[name] for name in outputs)
        self.strides = tuple(strides[name] for name in outputs)
        self._steps = _plan(layers, set(outputs))

    def forward(self, x: Tensor) -> list[Tensor]:
        """``[B, in_channels, H, W]`` to the outputs ``[B, channels[i], h, w]``."""
        maps = {INPUT: x}
        for step in self._steps:
            module = self.get_submodule(step.name)
            maps[step.name] = module(*[maps[name] for name in step.inputs])
            for name in step.forget:
                del maps[name]
        return [maps[name] for name in self.outputs]


class GraphPredictor(LayerGraph):
    """A graph with one output, for heads."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override] # one map instead of a list of them
        """``[B, in_channels, H, W]`` to ``[B, channels[0], h, w]``."""
        return super().forward(x)[0]


def build_predictor(layers: Sequence[GraphLayer], in_channels: int, out_channels: int) -> GraphPredictor:
    """A head's predictor; its last layer is a convolution that gives ``out_channels``.

    Raises:
        ConfigError: it is not.
    """
    if not layers or layers[-1].kind != "conv":
        raise ConfigError("a predictor of a graph head must end in a convolution")
    last = layers[-1].model_copy(update={"channels": out_channels})
    return GraphPredictor((*layers[:-1], last), in_channels, (last.name,))


class ChannelScale(nn.Module):
    """Multiply and shift every channel (Caffe's Scale)."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        x = x * self.weight[:, None, None]
        return x if self.bias is None else x + self.bias[:, None, None]


class Power(nn.Module):
    """``(shift + scale * x) ** power`` (Caffe's Power)."""

    def __init__(self, power: float, scale: float, shift: float) -> None:
        super().__init__()
        self.power, self.scale, self.shift = power, scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        x = x * self.scale + self.shift
        return x if self.power == 1 else x**self.power


class Join(nn.Module):
    """Combine maps of equal size element by element, or one after the other along the channels."""

    def __init__(self, kind: str, factors: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.kind = kind
        self.factors = factors if any(factor != 1 for factor in factors) else ()

    def forward(self, *maps: Tensor) -> Tensor:
        """``[B, C_i, H, W]`` each."""
        if self.kind == "concat":
            return torch.cat(maps, dim=1)
        scaled = [x * factor for x, factor in zip(maps, self.factors, strict=True)] if self.factors else list(maps)
        out = scaled[0]
        for other in scaled[1:]:
            out = out + other if self.kind == "sum" else out * other if self.kind == "product" else out.maximum(other)
        return out


def _convolution(layer: GraphLayer, width: int) -> nn.Module:
    shared = (layer.kernel_hw, layer.stride_hw, layer.padding_hw)
    if layer.kind == "deconv":
        return nn.ConvTranspose2d(
            width, layer.channels, *shared, groups=layer.groups, bias=layer.bias, dilation=layer.dilation_hw
        )
    return nn.Conv2d(width, layer.channels, *shared, layer.dilation_hw, layer.groups, layer.bias)


def _relu(layer: GraphLayer, width: int) -> nn.Module:
    return nn.LeakyReLU(layer.values[0]) if layer.values and layer.values[0] else nn.ReLU()


def _power(layer: GraphLayer, width: int) -> nn.Module:
    power, scale, shift = layer.values
    return Power(power, scale, shift)


_BUILDERS: Mapping[str, Callable[[GraphLayer, int], nn.Module]] = {
    "conv": _convolution,
    "deconv": _convolution,
    "max_pool": lambda layer, _: nn.MaxPool2d(layer.kernel_hw, layer.stride_hw, layer.padding_hw, ceil_mode=layer.ceil),
    "avg_pool": lambda layer, _: nn.AvgPool2d(layer.kernel_hw, layer.stride_hw, layer.padding_hw, ceil_mode=layer.ceil),
    "global_max_pool": lambda *_: nn.AdaptiveMaxPool2d(1),
    "global_avg_pool": lambda *_: nn.AdaptiveAvgPool2d(1),
    "batch_norm": lambda layer, width: nn.BatchNorm2d(width, eps=layer.eps),
    "scale": lambda layer, width: ChannelScale(width, layer.bias),
    "relu": _relu,
    "relu6": lambda *_: nn.ReLU6(),
    "prelu": lambda _, width: nn.PReLU(width),
    "elu": lambda layer, _: nn.ELU(layer.values[0] if layer.values else 1.0),
    "sigmoid": lambda *_: nn.Sigmoid(),
    "tanh": lambda *_: nn.Tanh(),
    "power": _power,
    "l2_norm": lambda _, width: L2Norm(width),
}
JOINS = ("sum", "product", "max", "concat")


def _build(layer: GraphLayer, widths: Sequence[int]) -> nn.Module:
    if layer.kind in JOINS:
        return Join(layer.kind, layer.values)
    if len(widths) != 1 or (layer.kind in ("conv", "deconv") and layer.channels < 1):
        raise ConfigError(f"layer '{layer.name}' of the graph needs one input and, to convolve, channels")
    return _BUILDERS[layer.kind](layer, widths[0])


def _width(layer: GraphLayer, widths: Sequence[int]) -> int:
    if layer.kind in ("conv", "deconv"):
        return layer.channels
    return sum(widths) if layer.kind == "concat" else widths[0]


def _stride(layer: GraphLayer, stride: int) -> int:
    """Input cells per cell, as far as it is a whole number."""
    if layer.kind == "deconv":
        return max(stride // layer.stride_hw[0], 1)
    return stride * layer.stride_hw[0]


def _plan(layers: Sequence[GraphLayer], kept: set[str]) -> list[Step]:
    """The layers' turns; a map is forgotten after its last reader, unless it is an output."""
    last_reader = {name: layer.name for layer in layers for name in layer.inputs}
    steps = []
    for layer in layers:
        done = {name for name in layer.inputs if last_reader[name] == layer.name and name not in kept}
        steps.append(Step(layer.name, layer.inputs, tuple(sorted(done))))
    return steps
