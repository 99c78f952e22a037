"""Default boxes for a data set: the model's, scaled to the sizes of its objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from singleshot.core.boxes import cxcywh_to_xyxy, pairwise_iou
from singleshot.core.settings import AnchorConfig
from singleshot.core.structures import Sample
from singleshot.models.build import assemble_network
from singleshot.models.config import ModelSpec
from singleshot.models.network import trace_maps
from singleshot.multibox.anchors import default_boxes
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
    size_hw = spec.preprocess.size_hw
    boxes, _ = network_boxes(samples, size_hw)
    chosen = np.linspace(0, len(boxes) - 1, min(len(boxes), LOOKED_AT)).astype(int)
    objects = torch.from_numpy(boxes[chosen])
    if not len(objects):
        return spec.anchors
    with torch.device("meta"):
        network = assemble_network(spec.network)
    maps = [(x.shape[2], x.shape[3]) for x in trace_maps(network.to_empty(device="cpu"), size_hw)]
    levels = len(maps)
    graded = [[factor ** (1 - k / max(levels - 1, 1)) for k in range(levels)] for factor in FACTORS]
    candidates = [scale_anchors(spec.anchors, factors) for factors in [[1.0] * levels, *graded]]
    candidates += [scale_anchors(spec.anchors, [factor] * levels) for factor in FACTORS]
    return max(candidates, key=lambda anchors: _mean_iou(objects, default_boxes(anchors, maps, size_hw)))


def _mean_iou(objects_xyxy: Tensor, anchors_cxcywh: Tensor) -> float:
    anchors_xyxy = cxcywh_to_xyxy(anchors_cxcywh)
    best = [pairwise_iou(part, anchors_xyxy).amax(dim=1) for part in torch.split(objects_xyxy, 50)]
    return float(torch.cat(best).mean())
