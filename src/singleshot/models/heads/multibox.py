"""The multibox head: two small predictors per feature map, shared over its cells (SSD section 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from singleshot.core.structures import HeadOutput
from singleshot.models.config import HeadConfig
from singleshot.models.heads.prediction import build_prediction_module
from singleshot.models.layers import map_size
from singleshot.models.registry import HEADS


class MultiBoxHead(nn.Module):
    """Predicts 4 box codes and K class logits for every default box of every cell.

    Args:
        boxes: predictor of each map, ``[B, C_i, h, w] -> [B, boxes_per_cell[i] * 4, h, w]``.
        logits: predictor of each map, ``[B, C_i, h, w] -> [B, boxes_per_cell[i] * K, h, w]``; channels are read
            box by box.
        columns: K.
        shared: module of each map that runs before both predictors (prediction modules), or nothing.
        layout: order of the anchors within a map, see ``HeadConfig``.
    """

    def __init__(
        self,
        boxes: Sequence[nn.Module],
        logits: Sequence[nn.Module],
        columns: int,
        shared: Sequence[nn.Module] = (),
        layout: Literal["cell", "shape"] = "cell",
    ) -> None:
        super().__init__()
        self.shared = nn.ModuleList(shared)
        self.boxes = nn.ModuleList(boxes)
        self.logits = nn.ModuleList(logits)
        self.columns = columns
        self.layout = layout

    def forward(self, maps: list[Tensor]) -> HeadOutput:
        """Maps ``[B, C_i, h_i, w_i]``, finest first, to one row per anchor: maps, then cells, then boxes of a cell."""
        if len(self.shared):
            maps = [module(x) for module, x in zip(self.shared, maps, strict=True)]
        boxes = [self._rows(predict(x), 4) for predict, x in zip(self.boxes, maps, strict=True)]
        logits = [self._rows(predict(x), self.columns) for predict, x in zip(self.logits, maps, strict=True)]
        return HeadOutput(torch.cat(boxes, dim=1), torch.cat(logits, dim=1))

    def _rows(self, x: Tensor, columns: int) -> Tensor:
        """``[B, N * columns, h, w]`` to ``[B, h * w * N, columns]``; a view when ``x`` is channels-last."""
        (batch, channels), (height, width) = x.shape[:2], map_size(x)
        rows = height * width * channels // columns
        if self.layout == "cell":
            return x.permute(0, 2, 3, 1).reshape(batch, rows, columns)
        split = x.reshape(batch, channels // columns, columns, height, width)
        return split.permute(0, 1, 3, 4, 2).reshape(batch, rows, columns)


class HeadBuilder(Protocol):
    """What the registry of heads holds."""

    def __call__(self, config: HeadConfig, channels: tuple[int, ...], columns: int, eps: float) -> MultiBoxHead:
        """A head with random weights.

        Args:
            config: its options.
            channels: of the maps that it reads, finest first.
            columns: of its class logits.
            eps: of its BatchNorms.
        """
        ...


def build_head(config: HeadConfig, channels: tuple[int, ...], eps: float = 1e-5, *, logits: int = 0) -> MultiBoxHead:
    """Build the head of a network.

    Args:
        config: kind, columns and boxes per cell.
        channels: of the maps that it reads, finest first.
        eps: of its BatchNorms.
        logits: overrides ``config.logits`` (RefineDet's objectness head has 2).

    Raises:
        ConfigError: no head of that kind, or no prediction module of that name.
    """
    return HEADS.get(config.kind, "network.head.kind")(config, channels, logits or config.logits, eps)


def head_of_predictors(
    config: HeadConfig,
    channels: tuple[int, ...],
    columns: int,
    eps: float,
    predictor: Callable[[int, int, int], nn.Module],
) -> MultiBoxHead:
    """A head whose two predictors of a map are built by one function; prediction modules stand before them.

    Args:
        config: boxes per cell, layout and prediction modules.
        channels: of the maps, finest first.
        columns: of the class logits.
        eps: of the BatchNorms.
        predictor: ``(level, input channels, output channels) -> module``; level 0 is the finest.
    """
    shared = [build_prediction_module(config, count, eps, level) for level, count in enumerate(channels)]
    widths = [getattr(module, "out_channels", count) for module, count in zip(shared, channels, strict=True)]
    rows = list(zip(range(len(channels)), widths, config.boxes_per_cell, strict=True))
    boxes = [predictor(level, width, per_cell * 4) for level, width, per_cell in rows]
    logits = [predictor(level, width, per_cell * columns) for level, width, per_cell in rows]
    plain = all(isinstance(module, nn.Identity) for module in shared)
    return MultiBoxHead(boxes, logits, columns, () if plain else shared, config.layout)


def set_class_prior(head: MultiBoxHead, probability: float = 0.01) -> None:
    """Set the class biases so that every anchor starts as background (RetinaNet section 4.1, for softmax and sigmoid).

    Args:
        head: changed in place. Its logits must have background in column 0.
        probability: of each object class before training.

    Raises:
        ValueError: its last convolutions have no bias.
    """
    if head.columns < 2:
        return
    object_logit = torch.logit(torch.tensor(probability)).item()
    for predictor in head.logits:
        bias = [module.bias for module in predictor.modules() if isinstance(module, nn.Conv2d)][-1]
        if bias is None:
            raise ValueError("a predictor of class logits has no bias to set")
        with torch.no_grad():
            rows = bias.view(-1, head.columns)
            rows.zero_()
            rows[:, 1:] = object_logit
