"""Which anchor learns which object (SSD section 2.2, "Matching strategy").

Objects of a batch are worked on as rows: on the host only the real ones, so that padding costs nothing; on a GPU all
``B * M``, because counting the real ones would wait for the device. Nothing here loops over images or anchors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from singleshot.boxes import cxcywh_to_xyxy, pairwise_iou
from singleshot.config import MatchConfig
from singleshot.multibox.waiting import counting_is_free

MATCH = MatchConfig()


class Matches(NamedTuple):
    """Result of matching a batch.

    Attributes:
        object_index: object that each anchor learns, 0..M-1 of its image, -1 for none, ``[B, A]`` int64.
        best_iou: each anchor's largest IoU with any object of its image, 0 without objects, ``[B, A]``.
    """

    object_index: Tensor
    best_iou: Tensor


class _Rows(NamedTuple):
    """Objects as rows: ``slots`` are their places in the flattened ``[B * M]``, ``images`` their images, ``[R]``.

    ``peers`` are the rows of the same image, ``[R, M]``, the last one repeated where there are fewer; ``own`` is where
    among them a row finds itself.
    """

    slots: Tensor
    images: Tensor
    peers: Tensor
    own: Tensor


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
    batch, anchors = len(valid), anchors_xyxy.shape[-2]
    rows = _object_rows(valid)
    best_iou = boxes_xyxy.new_zeros(batch, anchors)
    object_index = torch.full((batch, anchors), -1, dtype=torch.int64, device=valid.device)
    if len(rows.slots) == 0 or anchors == 0:
        return Matches(object_index, best_iou)
    objects = boxes_xyxy.flatten(0, 1)[rows.slots]
    if anchors_xyxy.dim() == 3:
        iou = pairwise_iou(objects[:, None], anchors_xyxy[rows.images]).squeeze(1)
    else:
        iou = pairwise_iou(objects, anchors_xyxy)
    if not counting_is_free(valid):
        iou.masked_fill_(~valid.view(-1, 1), 0.0)
    best_iou.scatter_reduce_(0, rows.images[:, None].expand_as(iou), iou, "amax")
    if config.positive_iou is not None:
        # Whatever the threshold, no anchor takes an object that it does not touch.
        least = max(config.positive_iou, torch.finfo(iou.dtype).tiny)
        reached = best_iou >= least if config.compare == ">=" else best_iou > least
        object_index = torch.where(reached, _nearest_objects(iou, best_iou, rows, valid), -1)
    return Matches(_force(object_index, iou, rows, valid, config), best_iou)


def _object_rows(valid: Tensor) -> _Rows:
    batch, objects = valid.shape
    present = valid if counting_is_free(valid) else torch.ones_like(valid)
    slots = torch.arange(batch * objects, device=valid.device)
    slots = slots[valid.flatten()] if counting_is_free(valid) else slots
    images = slots // max(1, objects)
    counts = present.sum(dim=1)
    starts = (counts.cumsum(0) - counts)[images][:, None]
    last = starts + counts[images][:, None] - 1
    peers = torch.minimum(starts + torch.arange(objects, device=valid.device), last)
    own = torch.arange(len(slots), device=valid.device) - starts.squeeze(1)
    return _Rows(slots, images, peers, own)


def _nearest_objects(iou: Tensor, best_iou: Tensor, rows: _Rows, valid: Tensor) -> Tensor:
    """Lowest object of each anchor's image that has the anchor's best IoU, ``[B, A]`` int64; M or more if none."""
    objects = valid.shape[1]
    within = torch.where(valid.flatten()[rows.slots], rows.slots % objects, objects).to(iou.dtype)
    # The object's number where it has the best IoU, else far above M: as arithmetic several times as fast on a CPU as
    # a comparison with a selection. Unequal IoUs near any sensible threshold differ by far more than 1e-20.
    holders = best_iou.index_select(0, rows.images).sub_(iou).mul_(1e30).add_(within[:, None])
    nearest = torch.full_like(best_iou, objects)
    return nearest.scatter_reduce_(0, rows.images[:, None].expand_as(iou), holders, "amin").long()


def _force(object_index: Tensor, iou: Tensor, rows: _Rows, valid: Tensor, config: MatchConfig) -> Tensor:
    """Let every object have an anchor, as the dialect says; uses up ``iou``."""
    if config.forced == "none":
        return object_index
    if config.forced == "bipartite":
        anchor = _greedy_rows(iou, rows, config.min_forced_iou)
    else:
        anchor = torch.where(valid.flatten()[rows.slots], iou.argmax(dim=1), -1)
    batch, anchors = object_index.shape
    within = rows.slots % valid.shape[1]
    spare = rows.images * anchors + anchor
    forced = object_index.new_full((batch * anchors + 1,), -1)
    # Objects without an anchor write behind the end. Of several objects with one anchor the last gets it.
    forced.scatter_reduce_(0, torch.where(anchor < 0, batch * anchors, spare), within, "amax")
    forced = forced[:-1].view(batch, anchors)
    return torch.where(forced >= 0, forced, object_index)


def greedy_bipartite(scores: Tensor, min_score: float) -> Tensor:
    """Repeatedly join the free object and the free anchor with the largest score.

    Ties go to the lowest anchor, then to the lowest object.

    Args:
        scores: ``[B, M, A]``.
        min_score: pairs need a score above this.

    Returns:
        Anchor of each object, -1 for none, ``[B, M]`` int64.
    """
    batch, objects, anchors = scores.shape
    if scores.numel() == 0:
        return torch.full((batch, objects), -1, dtype=torch.int64, device=scores.device)
    rows = _object_rows(torch.ones(batch, objects, dtype=torch.bool, device=scores.device))
    finite = scores.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    return _greedy_rows(finite.reshape(-1, anchors), rows, min_score).view(batch, objects)


def _greedy_rows(scores: Tensor, rows: _Rows, min_score: float) -> Tensor:
    """Greedy bipartite matching of every image at once, ``[R, A]`` -> anchor of each row or -1; uses up ``scores``.

    A pair that is the best of both its object and its anchor cannot be outrun by any other pair, so each round joins
    all such pairs of all images. One or two rounds are usual; on a GPU, where looking whether any are left would wait
    for the device, as many as an image can need are run.
    """
    result = torch.full_like(rows.images, -1)
    best, anchor = scores.max(dim=1)
    open_rows = best > min_score
    for _ in range(min(rows.peers.shape[1], scores.shape[1])):
        rivals = torch.where(open_rows[rows.peers], scores[rows.peers, anchor[:, None]], -torch.inf)
        joined = open_rows & (rivals.argmax(dim=1) == rows.own)
        result = torch.where(joined, anchor, result)
        gone = torch.where(joined, -torch.inf, 0.0).to(scores.dtype)
        scores.index_put_((rows.peers, anchor[:, None]), gone[:, None].expand_as(rows.peers), accumulate=True)
        open_rows = open_rows & ~joined
        again = open_rows.nonzero().squeeze(1) if counting_is_free(scores) else slice(None)
        if isinstance(again, Tensor) and len(again) == 0:
            break
        best[again], anchor[again] = scores[again].max(dim=1)
        open_rows = open_rows & (best > min_score)
    return result
