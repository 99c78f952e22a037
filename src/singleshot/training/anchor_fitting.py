"""Default boxes for a data set: the model's, scaled to the sizes of its objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from singleshot.core.settings import AnchorConfig
from singleshot.core.structures import Sample
from singleshot.models.build import assemble_network
from singleshot.models.config import ModelSpec
from singleshot.models.network import trace_maps
from singleshot.multibox.anchors import default_boxes
from singleshot.training.anchor_clusters import best_boxes, cluster_anchors, cluster_sides, with_shapes
from singleshot.training.checks import network_boxes

# Enough to tell factors apart, few enough to take about a second.
LOOKED_AT = 1000
FACTORS = (0.125, 0.177, 0.25, 0.354, 0.5, 0.707, 1.0, 1.414)


def scale_anchors(anchors: AnchorConfig, factors: Sequence[float]) -> AnchorConfig:
    """The same default boxes in other sizes; their number and places stay, and with them the weights of the heads.

    Args:
        anchors: of the model.
        factors: of widths and heights, one per level.
    """
    levels = tuple(
        level.model_copy(update={"shapes_wh": tuple((w * factor, h * factor) for w, h in level.shapes_wh)})
        for level, factor in zip(anchors.levels, factors, strict=True)
    )
    return anchors.model_copy(update={"levels": levels})


def fit_anchors(spec: ModelSpec, samples: Sequence[Sample]) -> AnchorConfig:
    """The scaling of a model's default boxes that overlaps the objects best, by their mean best IoU.

    All levels are scaled alike, or the finest most and the coarsest not at all, where sizes are spread widely.

    Args:
        spec: the detector; its input size counts.
        samples: the training data.
    """
    size_hw, maps = spec.preprocess.size_hw, map_sizes(spec)
    objects = spread_objects(samples, size_hw)
    if not len(objects):
        return spec.anchors
    levels = len(maps)
    graded = [[factor ** (1 - k / max(levels - 1, 1)) for k in range(levels)] for factor in FACTORS]
    candidates = [scale_anchors(spec.anchors, factors) for factors in [[1.0] * levels, *graded]]
    candidates += [scale_anchors(spec.anchors, [factor] * levels) for factor in FACTORS]
    return max(candidates, key=lambda anchors: _mean_iou(objects, default_boxes(anchors, maps, size_hw)))


def cluster_fit(spec: ModelSpec, samples: Sequence[Sample], scaled: AnchorConfig) -> AnchorConfig:
    """The default boxes of as many shapes as the model has that overlap the objects best, by k-means on their IoU.

    It begins at the scaled ones, and at clusters of the objects' sides that are given to the levels by area.

    Args:
        spec: the detector; its input size counts.
        samples: the training data.
        scaled: what `fit_anchors` gives for them.
    """
    size_hw, maps = spec.preprocess.size_hw, map_sizes(spec)
    objects = spread_objects(samples, size_hw)
    if not len(objects):
        return scaled
    sides = (objects[:, 2:] - objects[:, :2]).numpy().astype(np.float64)
    by_area = with_shapes(spec.anchors, cluster_sides(sides, sum(spec.anchors.boxes_per_cell)), maps, size_hw)
    candidates = [scaled, by_area]
    for start in (scaled, by_area):
        candidates += cluster_anchors(start, objects, maps, size_hw)
    return max(candidates, key=lambda anchors: _mean_iou(objects, default_boxes(anchors, maps, size_hw)))


def map_sizes(spec: ModelSpec) -> list[tuple[int, int]]:
    """(Height, width) of each feature map that a detector's heads read."""
    with torch.device("meta"):
        network = assemble_network(spec.network)
    return [(x.shape[2], x.shape[3]) for x in trace_maps(network.to_empty(device="cpu"), spec.preprocess.size_hw)]


def spread_objects(samples: Sequence[Sample], size_hw: tuple[int, int]) -> Tensor:
    """At most ``LOOKED_AT`` objects, evenly spread, in pixels of the network input, ``[N, 4]``."""
    boxes, _ = network_boxes(samples, size_hw)
    chosen = np.linspace(0, len(boxes) - 1, min(len(boxes), LOOKED_AT)).astype(int)
    return torch.from_numpy(boxes[chosen])


def _mean_iou(objects_xyxy: Tensor, anchors_cxcywh: Tensor) -> float:
    return float(best_boxes(objects_xyxy, anchors_cxcywh)[0].mean())
