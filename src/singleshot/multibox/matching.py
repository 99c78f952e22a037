"""Which anchor learns which object (SSD section 2.2, "Matching strategy")."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from singleshot.boxes import cxcywh_to_xyxy, pairwise_iou
from singleshot.config import MatchConfig

MATCH = MatchConfig()


class Matches(NamedTuple):
    """Result of matching a batch.

    Attributes:
        object_index: row of the object that each anchor learns, -1 for none, ``[B, A]`` int64.
        best_iou: each anchor's largest IoU with any object of its image, 0 without objects, ``[B, A]``.
    """

    object_index: Tensor
    best_iou: Tensor


def match_anchors(anchors_cxcywh: Tensor, boxes_xyxy: Tensor, valid: Tensor, config: MatchConfig = MATCH) -> Matches:
    """Match the anchors of a batch with its objects.

    Args:
        anchors_cxcywh: ``[A, 4]``, or ``[B, A, 4]`` where each image has its own (RefineDet).
        boxes_xyxy: objects in the unit of the anchors, padded, ``[B, M, 4]``.
        valid: which rows are objects, ``[B, M]`` bool.
        config: thresholds and dialect.
    """
    return match_boxes(cxcywh_to_xyxy(anchors_cxcywh), boxes_xyxy, valid, config)


@torch.no_grad()
def match_boxes(anchors_xyxy: Tensor, boxes_xyxy: Tensor, valid: Tensor, config: MatchConfig = MATCH) -> Matches:
    """The same for anchors given as corners."""
    batch, objects = valid.shape
    anchors = anchors_xyxy.shape[-2]
    if objects == 0:
        empty = boxes_xyxy.new_zeros(batch, anchors)
        return Matches(empty.long() - 1, empty)
    iou = pairwise_iou(boxes_xyxy, anchors_xyxy).masked_fill(~valid[..., None], -1.0)
    best_iou, object_index = iou.max(dim=1)
    if config.positive_iou is None:
        positive = torch.zeros_like(best_iou, dtype=torch.bool)
    else:
        positive = best_iou >= config.positive_iou if config.compare == ">=" else best_iou > config.positive_iou
    object_index = torch.where(positive & (best_iou >= 0), object_index, -1)
    if config.forced == "bipartite":
        forced = greedy_bipartite(iou, config.min_forced_iou)
        object_index = _force(object_index, forced)
    elif config.forced == "last_wins":
        object_index = _force(object_index, torch.where(valid, iou.argmax(dim=2), -1))
    return Matches(object_index, best_iou.clamp(min=0))


def _force(object_index: Tensor, anchor_of_object: Tensor) -> Tensor:
    """Give objects their anchors (-1: none); of several objects with one anchor the last gets it."""
    batch, anchors = object_index.shape
    spare = torch.where(anchor_of_object < 0, anchors, anchor_of_object)
    rows = torch.arange(anchor_of_object.shape[1], device=spare.device).expand_as(spare)
    forced = torch.full((batch, anchors + 1), -1, dtype=torch.int64, device=spare.device)
    forced = forced.scatter_reduce(1, spare, rows, "amax")[:, :anchors]
    return torch.where(forced >= 0, forced, object_index)


def greedy_bipartite(scores: Tensor, min_score: float) -> Tensor:
    """Repeatedly join the free object and free anchor with the largest score.

    Pairs that are the best of both their object and their anchor cannot be outrun by any other, so each round joins
    all of them at once; the result equals the greedy one. Ties go to the lowest anchor, then the lowest object.

    Args:
        scores: ``[B, M, A]``.
        min_score: pairs need a score above this.

    Returns:
        Anchor of each object, -1 for none, ``[B, M]`` int64.
    """
    batch, objects, anchors = scores.shape
    left = scores.clone()
    result = torch.full((batch, objects), -1, dtype=torch.int64, device=scores.device)
    image = torch.arange(batch, device=scores.device)[:, None]
    for _ in range(min(objects, anchors)):
        best, anchor = left.max(dim=2)
        rivals = left.gather(2, anchor[:, None, :].expand(-1, objects, -1))
        joined = (best > min_score) & (rivals.argmax(dim=1) == torch.arange(objects, device=scores.device))
        if not joined.any():
            break
        result = torch.where(joined, anchor, result)
        left.masked_fill_(joined[..., None], -torch.inf)
        taken = torch.zeros(batch, anchors, dtype=torch.bool, device=scores.device)
        taken = taken.index_put((image.expand_as(anchor)[joined], anchor[joined]), torch.ones((), dtype=torch.bool))
        left.masked_fill_(taken[:, None, :], -torch.inf)
    return result
