"""Soft-NMS (arXiv 1704.04503): a chosen box lowers the scores of what overlaps it instead of removing it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from singleshot.core.boxes import pairwise_iou
from singleshot.core.nms_kinds import NMS_KINDS, NmsConfig, NmsKind, Survivors
from singleshot.multibox.nms import BoxesOf, ScoreTable, best_of_groups

Fall = Callable[[Tensor, NmsConfig], Tensor]
"""What scores are multiplied by, given their boxes' IoU with a chosen one."""


def linear(overlap: Tensor, config: NmsConfig) -> Tensor:
    """1 - IoU where the IoU is above ``iou``."""
    return torch.where(overlap > config.iou, 1 - overlap, 1.0)


def gaussian(overlap: Tensor, config: NmsConfig) -> Tensor:
    """exp(-IoU^2 / sigma) everywhere."""
    return torch.exp(-overlap.square() / config.sigma)


def soft_nms(
    scores: Tensor, images: Tensor, groups: Tensor, boxes_xyxy: Tensor, fall: Fall, config: NmsConfig
) -> tuple[Tensor, Tensor]:
    """Choose boxes of all images together, one of each image in a step: the loop runs over detections.

    Args:
        scores: ``[N]``; of equal scores the first is chosen.
        images: image of each candidate, ascending from 0, ``[N]`` int64.
        groups: boxes lower only scores of their own group, ``[N]`` int64.
        boxes_xyxy: corners, ``[N, 4]``.
        fall: how scores fall.
        config: limits and numbers; boxes whose lowered score is not above ``min_score`` are not chosen.

    Returns:
        Rows of the candidates and their lowered scores, by image and falling score, ``[K]`` each.
    """
    table = ScoreTable(scores, images)
    left = table.scores
    boxes, kinds = boxes_xyxy.new_zeros(*left.shape, 4), groups.new_full(left.shape, -1)
    boxes[images, table.columns], kinds[images, table.columns] = boxes_xyxy, groups
    chosen = groups.new_zeros(len(left), 0)
    values = scores.new_zeros(len(left), 0)
    for _ in range(min(config.max_per_image or left.shape[1], left.shape[1])):
        value, pick = left.max(dim=1, keepdim=True)
        if not bool((value > config.min_score).any()):
            break
        chosen, values = torch.cat([chosen, pick], dim=1), torch.cat([values, value], dim=1)
        kind = kinds.gather(1, pick)
        overlap = pairwise_iou(boxes.gather(1, pick[..., None].expand(-1, 1, 4)), boxes, config.union_eps).squeeze(1)
        left.mul_(torch.where(kinds == kind, fall(overlap, config), 1.0)).scatter_(1, pick, -torch.inf)
        if config.max_per_group is not None:
            full = (kinds.gather(1, chosen) == kind).sum(dim=1, keepdim=True) >= config.max_per_group
            left.masked_fill_((kinds == kind) & full, -torch.inf)
    good = values > config.min_score
    return (table.starts[:, None] + chosen)[good], values[good]


def _soft(
    fall: Fall, scores: Tensor, images: Tensor, groups: Tensor, boxes_of: BoxesOf, config: NmsConfig
) -> Survivors[Tensor]:
    rows = best_of_groups(scores, groups, config.top_k)
    boxes = boxes_of(rows)
    chosen, lowered = soft_nms(scores[rows], images[rows], groups[rows], boxes, fall, config)
    return Survivors(rows[chosen], boxes[chosen], lowered)


soft_linear: NmsKind[Tensor] = NMS_KINDS.register("soft_linear")(partial(_soft, linear))
soft_gaussian: NmsKind[Tensor] = NMS_KINDS.register("soft_gaussian")(partial(_soft, gaussian))
