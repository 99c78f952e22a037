"""Default boxes: the shapes of an ``AnchorConfig`` placed on every cell of real feature maps (SSD section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from singleshot.core.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from singleshot.core.settings import AnchorConfig, AnchorLevel
from singleshot.errors import ConfigError


def default_boxes(
    config: AnchorConfig, map_sizes_hw: Sequence[tuple[int, int]], image_size_hw: tuple[int, int]
) -> Tensor:
    """All default boxes of a network, finest map first, in the order of the heads' rows.

    Args:
        config: shapes, spacing, clipping, order.
        map_sizes_hw: (height, width) of every feature map.
        image_size_hw: network input in pixels; (1, 1) gives fractions.

    Returns:
        cxcywh in pixels, ``[A, 4]`` float32.

    Raises:
        ConfigError: there are more or fewer maps than levels.
    """
    if len(map_sizes_hw) != len(config.levels):
        raise ConfigError(
            f"anchors.levels describes {len(config.levels)} feature maps but the network has {len(map_sizes_hw)}: "
            "give one entry per map, finest first"
        )
    steps_apply = config.reference_hw is None or tuple(config.reference_hw) == tuple(image_size_hw)
    levels = [
        _level_boxes(config, level, map_hw, level.step_hw if steps_apply else None)
        for level, map_hw in zip(config.levels, map_sizes_hw, strict=True)
    ]
    height, width = image_size_hw
    boxes = _clip(torch.cat(levels), config.clip) * torch.tensor([width, height] * 2, dtype=torch.float64)
    return boxes.float()


def _level_boxes(
    config: AnchorConfig, level: AnchorLevel, map_hw: tuple[int, int], step_hw: tuple[float, float] | None
) -> Tensor:
    """Boxes of one map as fractions, cxcywh, ``[H * W * shapes, 4]`` float64."""
    rows, columns = map_hw
    step_y, step_x = step_hw or (1 / rows, 1 / columns)
    # An offset of a level's own belongs to its own spacing.
    offset_y, offset_x = level.offset_yx if level.offset_yx and step_hw else config.offset_yx
    y = (torch.arange(rows, dtype=torch.float64) + offset_y) * step_y
    x = (torch.arange(columns, dtype=torch.float64) + offset_x) * step_x
    shapes = torch.tensor(level.shapes_wh, dtype=torch.float64)
    if config.aspect == "map":
        shapes = shapes * torch.tensor([rows / columns, 1.0], dtype=torch.float64)
    grid = torch.empty(rows, columns, len(shapes), 4, dtype=torch.float64)
    grid[..., 0], grid[..., 1] = x[None, :, None], y[:, None, None]
    grid[..., 2:] = shapes
    if config.layout == "shape":
        grid = grid.permute(2, 0, 1, 3)
    return grid.reshape(-1, 4)


def _clip(boxes_cxcywh: Tensor, clip: str) -> Tensor:
    if clip == "corner":
        return xyxy_to_cxcywh(cxcywh_to_xyxy(boxes_cxcywh).clamp(0, 1))
    if clip == "centre":
        return boxes_cxcywh.clamp(0, 1)
    if clip == "size":
        return torch.cat([boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:].clamp(0, 1)], dim=1)
    return boxes_cxcywh
