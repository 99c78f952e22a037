"""Default boxes by k-means on the overlap with a data set's objects; their number and places stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singleshot.core.boxes import cxcywh_to_xyxy, pairwise_iou
from singleshot.core.settings import AnchorConfig
from singleshot.multibox.anchors import default_boxes

ROUNDS = 10
AT_ONCE = 50
MapSizes = Sequence[tuple[int, int]]


def cluster_sides(sides_wh: NDArray[np.float64], count: int, rounds: int = 30) -> NDArray[np.float64]:
    """K-means of widths and heights with 1 - IoU of boxes about one centre as the distance (YOLO9000, section 2).

    Args:
        sides_wh: of the objects, ``[N, 2]``.
        count: how many clusters; begun at evenly spaced objects by area, so nothing is random.
        rounds: at most.

    Returns:
        Median sides of each cluster by growing area, ``[count, 2]``.
    """
    order = np.argsort(sides_wh.prod(axis=1), kind="stable")
    centres = sides_wh[order[np.linspace(0, len(order) - 1, count).astype(int)]].copy()
    nearest = np.full(len(sides_wh), -1)
    for _ in range(rounds):
        common = np.minimum(sides_wh[:, None], centres[None]).prod(axis=2)
        union = sides_wh.prod(axis=1)[:, None] + centres.prod(axis=1)[None] - common
        chosen = (common / union).argmax(axis=1)
        if (chosen == nearest).all():
            break
        nearest = chosen
        for index in np.unique(nearest):
            centres[index] = np.median(sides_wh[nearest == index], axis=0)
    order = np.argsort(centres.prod(axis=1), kind="stable")
    ordered: NDArray[np.float64] = centres[order]
    return ordered


def with_shapes(
    anchors: AnchorConfig, sides_wh: NDArray[np.float64], maps: MapSizes, size_hw: tuple[int, int]
) -> AnchorConfig:
    """Default boxes with other shapes, at the same places.

    Args:
        anchors: of the model.
        sides_wh: in pixels of the network input, level by level, ``[shapes, 2]``.
        maps: sizes of the feature maps.
        size_hw: network input.
    """
    levels, first = [], 0
    for level, (rows, columns) in zip(anchors.levels, maps, strict=True):
        own = sides_wh[first : first + len(level.shapes_wh)] / np.array(size_hw[::-1], dtype=np.float64)
        stretch = rows / columns if anchors.aspect == "map" else 1.0
        shapes = tuple((round(w / stretch, 5), round(h, 5)) for w, h in own.tolist())
        levels.append(level.model_copy(update={"shapes_wh": shapes}))
        first += len(level.shapes_wh)
    return anchors.model_copy(update={"levels": tuple(levels)})


def cluster_anchors(
    anchors: AnchorConfig, objects_xyxy: Tensor, maps: MapSizes, size_hw: tuple[int, int], rounds: int = ROUNDS
) -> list[AnchorConfig]:
    """K-means where it counts: every object goes to the shape whose box on the real grid overlaps it most.

    Each round moves a shape to the median sides of its objects; one without objects stays.

    Args:
        anchors: where to begin.
        objects_xyxy: in pixels of the network input, ``[N, 4]``.
        maps: sizes of the feature maps.
        size_hw: network input.
        rounds: at most.

    Returns:
        The default boxes after each round.
    """
    sides = (objects_xyxy[:, 2:] - objects_xyxy[:, :2]).numpy().astype(np.float64)
    shape_of = _shape_of_boxes(anchors, maps)
    found: list[AnchorConfig] = []
    nearest = np.full(len(sides), -1)
    for _ in range(rounds):
        boxes = default_boxes(anchors.model_copy(update={"clip": "none"}), maps, size_hw)
        chosen = shape_of[best_boxes(objects_xyxy, boxes)[1].numpy()]
        if (chosen == nearest).all():
            break
        nearest = chosen
        shapes = _sides_of_shapes(boxes, shape_of)
        for index in np.unique(nearest):
            shapes[index] = np.median(sides[nearest == index], axis=0)
        anchors = with_shapes(anchors, shapes, maps, size_hw)
        found.append(anchors)
    return found


def best_boxes(objects_xyxy: Tensor, anchors_cxcywh: Tensor) -> tuple[Tensor, Tensor]:
    """IoU with the best default box, and which it is, ``[N]`` each."""
    anchors_xyxy = cxcywh_to_xyxy(anchors_cxcywh)
    parts = [pairwise_iou(part, anchors_xyxy).max(dim=1) for part in torch.split(objects_xyxy, AT_ONCE)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _shape_of_boxes(anchors: AnchorConfig, maps: MapSizes) -> NDArray[np.int64]:
    """Which shape, counted through all levels, each default box has, ``[A]``."""
    parts, first = [], 0
    for count, (rows, columns) in zip(anchors.boxes_per_cell, maps, strict=True):
        own = np.arange(first, first + count)
        parts.append(np.repeat(own, rows * columns) if anchors.layout == "shape" else np.tile(own, rows * columns))
        first += count
    return np.concatenate(parts)


def _sides_of_shapes(boxes_cxcywh: Tensor, shape_of: NDArray[np.int64]) -> NDArray[np.float64]:
    first = np.unique(shape_of, return_index=True)[1]
    return boxes_cxcywh[first, 2:].numpy().astype(np.float64)
