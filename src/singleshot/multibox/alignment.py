"""Which anchor learns which object by how well the anchors predict so far (TOOD, arXiv 2108.07755, section 3.2).

An anchor is the better for an object the surer it is of the object's class and the closer its predicted box lies:
``score ** score_power * iou ** iou_power``. Each object takes the best of those whose centre lies in it. Of several
objects with one anchor the best predicted has it: one whose anchors all go to others has none. An object that no anchor
inside it predicts falls back on the anchor that the IoU of anchors alone would give it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from singleshot.core.boxes import pairwise_iou
from singleshot.core.settings import MatchConfig
from singleshot.multibox.matching import Matches


@torch.no_grad()
def align(
    predicted_xyxy: Tensor,
    scores: Tensor,
    anchors_cxcywh: Tensor,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    valid: Tensor,
    forced: Matches,
    config: MatchConfig,
) -> tuple[Tensor, Tensor]:
    """Give every object its anchors.

    Args:
        predicted_xyxy: decoded boxes, ``[B, A, 4]``.
        scores: of the classes, ``[B, A, C]``.
        anchors_cxcywh: ``[A, 4]`` or ``[B, A, 4]``.
        boxes_xyxy, class_ids, valid: objects, ``[B, M, 4]``, ``[B, M]`` and ``[B, M]``.
        forced: matches by the anchors' IoU; an object that no candidate predicts falls back on them.
        config: how many anchors, and what makes one good.

    Returns:
        Object of each anchor, -1 for none, ``[B, A]`` int64, and the IoU of its predicted box with it, 0 for none.
    """
    batch, count, anchors = *valid.shape, predicted_xyxy.shape[1]
    if count == 0 or anchors == 0:
        return forced.object_index, predicted_xyxy.new_zeros(batch, anchors)
    iou = pairwise_iou(boxes_xyxy, predicted_xyxy)
    own = class_ids.clamp(min=0)[:, :, None].expand(-1, -1, anchors)
    score = scores.transpose(1, 2).gather(1, own)
    good = score.pow(config.score_power) * iou.pow(config.iou_power)
    centre = (anchors_cxcywh if anchors_cxcywh.dim() == 3 else anchors_cxcywh[None])[..., None, :, :2]
    inside = (centre > boxes_xyxy[:, :, None, :2]) & (centre < boxes_xyxy[:, :, None, 2:])
    good = torch.where(inside.all(dim=-1) & valid[..., None], good, 0.0)
    best = good.topk(min(config.candidates, anchors), dim=2)
    chosen = torch.zeros_like(good, dtype=torch.bool).scatter(2, best.indices, best.values > 0)
    numbers = torch.arange(count, device=valid.device)[None, :, None]
    chosen |= (forced.object_index[:, None] == numbers) & ~chosen.any(dim=2, keepdim=True)
    rank = torch.where(chosen, iou + 1, 0.0)
    top = rank.max(dim=1)
    taken = top.values > 0
    quality = iou.gather(1, top.indices[:, None]).squeeze(1)
    return torch.where(taken, top.indices, -1), torch.where(taken, quality, 0.0)
