"""Predictors that the configuration describes layer by layer (imported models)."""

from __future__ import annotations

from singleshot.errors import ConfigError
from singleshot.models.config import HeadConfig
from singleshot.models.graph import build_predictor
from singleshot.models.heads.multibox import MultiBoxHead
from singleshot.models.registry import HEADS


@HEADS.register("graph")
def graph_head(config: HeadConfig, channels: tuple[int, ...], columns: int, eps: float) -> MultiBoxHead:
    """Build what ``config.box_layers`` and ``config.logit_layers`` describe.

    Raises:
        ConfigError: a list of layers is missing, or does not end in a convolution.
    """
    rows = list(zip(channels, config.boxes_per_cell, strict=True))
    for key, lists in (("box_layers", config.box_layers), ("logit_layers", config.logit_layers)):
        if len(lists) != len(rows):
            raise ConfigError(f"network.head.{key} has {len(lists)} entries for {len(rows)} sources")
    boxes = [
        build_predictor(layers, width, per_cell * 4)
        for layers, (width, per_cell) in zip(config.box_layers, rows, strict=True)
    ]
    logits = [
        build_predictor(layers, width, per_cell * columns)
        for layers, (width, per_cell) in zip(config.logit_layers, rows, strict=True)
    ]
    return MultiBoxHead(boxes, logits, columns, (), config.layout)
