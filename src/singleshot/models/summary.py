"""What a network is made of: maps, anchors, parameters, FLOPs. For ``singleshot models``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from singleshot.models.build import assemble_network
from singleshot.models.config import ModelSpec
from singleshot.models.network import Network, trace_maps


@dataclass(frozen=True, slots=True)
class LevelSummary:
    """One feature map that the head reads.

    Attributes:
        source: the tap or extra block that it comes from.
        channels, size_hw: of the map.
        stride_hw: input pixels per cell.
        boxes_per_cell: default boxes of a cell.
        anchors: default boxes of the map.
        sides_px: smallest and largest side of its default boxes in pixels of the input.
    """

    source: str
    channels: int
    size_hw: tuple[int, int]
    stride_hw: tuple[float, float]
    boxes_per_cell: int
    anchors: int
    sides_px: tuple[float, float]


@dataclass(frozen=True, slots=True)
class NetworkSummary:
    """A detector in numbers.

    Attributes:
        levels: its maps, finest first.
        parameters: trainable numbers, by part.
        flops: of one image, a multiplication and an addition counted as two; convolutions only.
    """

    levels: tuple[LevelSummary, ...]
    parameters: dict[str, int]
    flops: int

    @property
    def anchors(self) -> int:
        """Default boxes of an image."""
        return sum(level.anchors for level in self.levels)

    @property
    def total_parameters(self) -> int:
        """Trainable numbers of all parts."""
        return sum(self.parameters.values())


def summarise(spec: ModelSpec) -> NetworkSummary:
    """Measure a detector; its weights are never computed and take no memory.

    Raises:
        ConfigError: its network cannot be built at its input size.
    """
    with torch.device("meta"):
        network = assemble_network(spec.network)
    # Memory that is promised but never touched: layers run quicker on it than on the meta device.
    network = network.to_empty(device="cpu")
    levels = _levels(spec, network)
    return NetworkSummary(levels, count_parameters(network), count_flops(network, spec.preprocess.size_hw))


def count_parameters(network: nn.Module) -> dict[str, int]:
    """Numbers of trainable parameters by part of the network."""
    parts = {name: sum(value.numel() for value in part.parameters()) for name, part in network.named_children()}
    return {name: count for name, count in parts.items() if count}


def count_flops(network: Network, image_size_hw: tuple[int, int], counts: Callable[..., bool] | None = None) -> int:
    """Floating-point operations of the convolutions for one image, a multiplication and an addition counted as two.

    Args:
        network: is put into eval mode.
        image_size_hw: of the image.
        counts: given the arguments of a ``conv2d``, whether it counts; transposed ones then do not. ``None``: all do.
    """
    images = next(network.parameters()).new_empty((0, network.backbone.in_channels, *image_size_hw))
    counter = _ConvolutionCounter(counts)
    with torch.no_grad(), counter:
        network.eval()(images)
    return counter.flops


class _ConvolutionCounter(TorchFunctionMode):
    """Counts per image, whatever the batch. (PyTorch's own counter gives 0 for zero images, and imports a compiler.)"""

    def __init__(self, counts: Callable[..., bool] | None) -> None:
        super().__init__()
        self.flops: int = 0
        self._counts = counts

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        is_counted = self._counts is None or (func is functional.conv2d and self._counts(*args, **(kwargs or {})))
        if func in (functional.conv2d, functional.conv_transpose2d) and is_counted:
            # Every weight meets every cell of the output; in a transposed convolution, every cell of the input.
            cells = output if func is functional.conv2d else args[0]
            self.flops += 2 * args[1].numel() * cells.shape[2] * cells.shape[3]
        return output


def _levels(spec: ModelSpec, network: Network) -> tuple[LevelSummary, ...]:
    height, width = spec.preprocess.size_hw
    taps = getattr(network.backbone, "taps", tuple(str(index) for index in range(len(network.backbone.channels))))
    sources = [*taps, *(f"extras.{index}" for index in range(len(network.extras)))]
    maps = trace_maps(network, (height, width))
    levels = []
    for source, x, level in zip(sources, maps, spec.anchors.levels, strict=True):
        channels, rows, columns = x.shape[1:]
        sides = [side for w, h in level.shapes_wh for side in (w * width, h * height)]
        boxes = len(level.shapes_wh)
        stride_hw = (height / rows, width / columns)
        levels.append(
            LevelSummary(
                source, channels, (rows, columns), stride_hw, boxes, rows * columns * boxes, (min(sides), max(sides))
            )
        )
    return tuple(levels)
