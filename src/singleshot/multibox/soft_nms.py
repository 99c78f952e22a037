"""Soft-NMS (arXiv 1704.04503): a chosen box lowers the scores of what overlaps it instead of removing it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from singleshot.core.boxes import pairwise_iou
from singleshot.multibox.nms import ScoreTable


class SoftNmsConfig(NamedTuple):
    """Settings of soft-NMS.

    Attributes:
        kind: ``linear`` multiplies scores by 1 - IoU where the IoU is above ``iou``; ``gaussian`` by
            exp(-IoU^2 / sigma) everywhere.
        min_score: boxes whose lowered score is not above this are not chosen.
        max_per_group, max_per_image: boxes chosen at most; ``None`` does not limit a group.
        union_eps: added to the area of every union.
    """

    kind: Literal["linear", "gaussian"]
    iou: float
    sigma: float
    min_score: float
    max_per_group: int | None
    max_per_image: int
    union_eps: float = 0.0


def soft_nms(
    scores: Tensor, images: Tensor, groups: Tensor, boxes_xyxy: Tensor, config: SoftNmsConfig
) -> tuple[Tensor, Tensor]:
    """Choose boxes of all images together, one of each image in a step: the loop runs over detections.

    Args:
        scores: ``[N]``; of equal scores the first is chosen.
        images: image of each candidate, ascending from 0, ``[N]`` int64.
        groups: boxes lower only scores of their own group, ``[N]`` int64.
        boxes_xyxy: corners, ``[N, 4]``.
        config: how scores fall, and limits.

    Returns:
        Rows of the candidates and their lowered scores, by image and falling score, ``[K]`` each.
    """
    table = ScoreTable(scores, images)
    left = table.scores
    boxes, kinds = boxes_xyxy.new_zeros(*left.shape, 4), groups.new_full(left.shape, -1)
    boxes[images, table.columns], kinds[images, table.columns] = boxes_xyxy, groups
    chosen = groups.new_zeros(len(left), 0)
    values = scores.new_zeros(len(left), 0)
    for _ in range(min(config.max_per_image, left.shape[1])):
        value, pick = left.max(dim=1, keepdim=True)
        if not bool((value > config.min_score).any()):
            break
        chosen, values = torch.cat([chosen, pick], dim=1), torch.cat([values, value], dim=1)
        kind = kinds.gather(1, pick)
        overlap = pairwise_iou(boxes.gather(1, pick[..., None].expand(-1, 1, 4)), boxes, config.union_eps).squeeze(1)
        left.mul_(torch.where(kinds == kind, _factor(overlap, config), 1.0)).scatter_(1, pick, -torch.inf)
        if config.max_per_group is not None:
            full = (kinds.gather(1, chosen) == kind).sum(dim=1, keepdim=True) >= config.max_per_group
            left.masked_fill_((kinds == kind) & full, -torch.inf)
    good = values > config.min_score
    return (table.starts[:, None] + chosen)[good], values[good]


def _factor(overlap: Tensor, config: SoftNmsConfig) -> Tensor:
    if config.kind == "gaussian":
        return torch.exp(-overlap.square() / config.sigma)
    return torch.where(overlap > config.iou, 1 - overlap, 1.0)
