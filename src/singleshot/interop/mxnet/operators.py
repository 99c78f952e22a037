"""MXNet 1.9.1's detection operators by their names, parameters and defaults, on torch tensors.

Thin adapters over ``singleshot.multibox``. Coordinates are fractions of the image. Where MXNet's check fails these
raise ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from singleshot.core.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from singleshot.core.nms_kinds import NmsConfig
from singleshot.core.settings import AnchorConfig, CoderConfig, MatchConfig, Variances
from singleshot.interop.mxnet.operators_boxes import bipartite_matching, box_iou, box_nms
from singleshot.interop.mxnet.operators_losses import l2_normalization, make_loss, smooth_l1, softmax_output
from singleshot.models.zoo.box_shapes import mxnet_level
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.coder import decode_boxes, encode_boxes
from singleshot.multibox.matching import match_boxes
from singleshot.multibox.mining import count_negatives, mine_negatives
from singleshot.multibox.nms import greedy_nms, rank_in_groups

__all__ = [
    "bipartite_matching",
    "box_iou",
    "box_nms",
    "l2_normalization",
    "make_loss",
    "multibox_detection",
    "multibox_prior",
    "multibox_target",
    "smooth_l1",
    "softmax_output",
]


def multibox_prior(
    data: Tensor,
    sizes: Sequence[float] = (1.0,),
    ratios: Sequence[float] = (1.0,),
    clip: bool = False,
    steps: Sequence[float] = (-1.0, -1.0),
    offsets: Sequence[float] = (0.5, 0.5),
) -> Tensor:
    """``MultiBoxPrior``: default boxes of one feature map.

    Args:
        data: the map, ``[N, C, H, W]`` float32; only H and W matter.
        sizes: at least one scale; all come with the first ratio.
        ratios: at least one width / height; all but the first come with the first scale only.
        clip: clamp corners to [0, 1].
        steps: (y, x) spacing of the centres; not positive takes 1 / H and 1 / W.
        offsets: (y, x) place of a centre in its cell, in [0, 1].

    Returns:
        Corners, ``[1, H * W * (sizes + ratios - 1), 4]``.

    Raises:
        ValueError: as MXNet's checks.
    """
    _require(data.dim() >= 4, f"data must have at least 4 dimensions, it has {data.dim()}")
    _require(data.dtype == torch.float32, f"data must be float32, it is {data.dtype}")
    _require(len(sizes) > 0 and len(ratios) > 0, "sizes and ratios must not be empty")
    _require(len(steps) == 2 and len(offsets) == 2, "steps and offsets are pairs (y, x)")
    _require(steps[0] * steps[1] >= 0, f"steps must both be given or both be left out, not {tuple(steps)}")
    _require(all(0 <= value <= 1 for value in offsets), f"offsets must be in [0, 1], not {tuple(offsets)}")
    spacing = (float(steps[0]), float(steps[1])) if min(steps) > 0 else None
    config = AnchorConfig(
        levels=(mxnet_level(sizes, ratios, spacing),),
        offset_yx=(offsets[0], offsets[1]),
        clip="corner" if clip else "none",
        aspect="map",
    )
    boxes = default_boxes(config, [(data.shape[2], data.shape[3])], (1, 1))
    return cxcywh_to_xyxy(boxes)[None].to(data.device)


@torch.no_grad()
def multibox_target(
    anchor: Tensor,
    label: Tensor,
    cls_pred: Tensor,
    overlap_threshold: float = 0.5,
    ignore_label: float = -1.0,
    negative_mining_ratio: float = -1.0,
    negative_mining_thresh: float = 0.5,
    minimum_negative_samples: int = 0,
    variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
    *,
    allow_shortage: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """``MultiBoxTarget``: what each anchor should predict. No gradient.

    Args:
        anchor: corners, ``[1, A, 4]``.
        label: rows (class, x0, y0, x1, y1, ...) up to the first with class -1, ``[B, M, 5 or more]``.
        cls_pred: class logits, background first, ``[B, K, A]``; read only for mining.
        overlap_threshold: anchors take their best object above this IoU; 0 or less leaves the bipartite step only.
        ignore_label: class target of anchors that take no part.
        negative_mining_ratio: mined negatives per positive; 0 or less turns mining off.
        negative_mining_thresh: mined anchors have a best IoU below this.
        minimum_negative_samples: without effect, as in MXNet.
        variances: what targets are divided by.
        allow_shortage: take all candidates where there are fewer than wanted, instead of MXNet's error. Not MXNet's.

    Returns:
        ``loc_target [B, 4A]``, ``loc_mask [B, 4A]``, ``cls_target [B, A]``.

    Raises:
        ValueError: as MXNet's checks.
    """
    _check_target(anchor, label, cls_pred, variances)
    valid = _labelled(label)
    positive_iou = overlap_threshold if 0 < overlap_threshold <= 1 else None
    config = MatchConfig(positive_iou=positive_iou, compare=">", forced="bipartite", ties="literal")
    matches = match_boxes(anchor[0], label[..., 1:5], valid, config)
    positive_mask = matches.positive_mask
    own = matches.object_index.clamp(min=0)
    boxes = label[..., 1:5].gather(1, own[..., None].expand(-1, -1, 4))
    codes = encode_boxes(boxes, xyxy_to_cxcywh(anchor[0]), CoderConfig(variances=Variances(*variances)))
    mask = positive_mask[..., None].expand_as(codes)
    rest = torch.zeros_like(matches.best_iou)
    if negative_mining_ratio > 0:
        _require(
            negative_mining_thresh > 0 or not bool(valid.any()),
            f"negative_mining_thresh must be above 0, not {negative_mining_thresh}",
        )
        eligible_mask = matches.eligible_mask(negative_mining_thresh)
        negative_mask = _mined(cls_pred, positive_mask, eligible_mask, negative_mining_ratio, allow_shortage)
        rest = torch.where(negative_mask, 0.0, ignore_label)
    rest = torch.where(valid.any(dim=1, keepdim=True), rest, ignore_label)
    cls_target = torch.where(positive_mask, label[..., 0].gather(1, own) + 1, rest)
    return torch.where(mask, codes, 0.0).flatten(1), mask.to(codes.dtype).flatten(1), cls_target


def _check_target(anchor: Tensor, label: Tensor, cls_pred: Tensor, variances: Sequence[float]) -> None:
    _require(anchor.dim() == 3 and anchor.shape[0] == 1, f"anchor must be [1, A, 4], not {tuple(anchor.shape)}")
    _require(anchor.shape[2] == 4, f"anchor must be [1, A, 4], not {tuple(anchor.shape)}")
    _require(
        label.dim() == 3 and label.shape[1] > 0 and label.shape[2] >= 5,
        f"label must be [B, M, 5 or more] with M > 0, not {tuple(label.shape)}",
    )
    _require(
        cls_pred.dim() == 3 and cls_pred.shape[2] == anchor.shape[1],
        f"cls_pred must be [B, K, {anchor.shape[1]}], not {tuple(cls_pred.shape)}",
    )
    _require(len(variances) == 4, f"variances must be 4 numbers, not {len(variances)}")


def _labelled(label: Tensor) -> Tensor:
    """Rows before the first with class -1, which must be -1 throughout, ``[B, M]`` bool."""
    ended = (label[..., 0] == -1).cumsum(dim=1)
    first = (ended == 1) & (label[..., 0] == -1)
    _require(
        bool((label[..., 1:5] == -1).all(dim=-1)[first].all()),
        "a label row with class -1 ends the objects of an image: its coordinates must be -1 as well",
    )
    return ended == 0


def _mined(
    cls_pred: Tensor, positive_mask: Tensor, eligible_mask: Tensor, ratio: float, allow_shortage: bool
) -> Tensor:
    """Negatives chosen by the lowest probability of class 0, ``[B, A]`` bool; none for an image without positives."""
    batch, anchors = positive_mask.shape
    _require(len(cls_pred) >= batch, f"cls_pred has {len(cls_pred)} images but label has {batch}")
    num_positives = positive_mask.sum(dim=1)
    num_negatives = torch.minimum(count_negatives(num_positives, ratio, minimum=0), anchors - num_positives)
    short = eligible_mask.sum(dim=1) < num_negatives
    _require(
        allow_shortage or not bool(short.any()),
        "fewer candidates than negatives wanted: lower negative_mining_ratio, raise negative_mining_thresh, "
        "or pass allow_shortage=True",
    )
    return mine_negatives(-cls_pred[:batch].softmax(dim=1)[:, 0], eligible_mask, num_negatives)


@torch.no_grad()
def multibox_detection(
    cls_prob: Tensor,
    loc_pred: Tensor,
    anchor: Tensor,
    clip: bool = True,
    threshold: float = 0.01,
    background_id: int = 0,
    nms_threshold: float = 0.5,
    force_suppress: bool = False,
    variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
    nms_topk: int = -1,
) -> Tensor:
    """``MultiBoxDetection``: the best class of every anchor, decoded and suppressed. No gradient.

    Args:
        cls_prob: probabilities, background first, ``[B, K, A]``.
        loc_pred: box codes, ``[B, 4A]``.
        anchor: corners, ``[1, A, 4]``.
        clip: clamp decoded corners to [0, 1].
        threshold: keep scores of at least this.
        background_id: without effect, as in MXNet: class 0 is background.
        nms_threshold: suppress from this IoU on; outside (0, 1] nothing is sorted or suppressed.
        force_suppress: suppress across classes.
        variances: what codes are multiplied by.
        nms_topk: best detections that enter NMS if positive.

    Returns:
        Rows (class from 0 or -1, score, x0, y0, x1, y1), ``[B, A, 6]``. Suppressed rows stay in place with class -1.

    Raises:
        ValueError: as MXNet's checks.
    """
    _require(anchor.dim() == 3 and anchor.shape[0] == 1, f"anchor must be [1, A, 4], not {tuple(anchor.shape)}")
    _require(cls_prob.dim() == 3, f"cls_prob must be [B, K, A], not {tuple(cls_prob.shape)}")
    batch, columns, anchors = cls_prob.shape
    _require(anchor.shape[1:] == (anchors, 4), f"anchor must be [1, {anchors}, 4], not {tuple(anchor.shape)}")
    _require(loc_pred.numel() == batch * anchors * 4, f"loc_pred must be [{batch}, {4 * anchors}]")
    _require(len(variances) == 4, f"variances must be 4 numbers, not {len(variances)}")
    result = cls_prob.new_full((batch, anchors, 6), -1.0)
    if columns < 2 or anchors == 0:
        return result
    # As MXNet's search for the best class, which begins at -1: NaN never wins.
    scores, ids = torch.where(cls_prob[:, 1:] > -1, cls_prob[:, 1:], -1.0).max(dim=1)
    images, places = ((scores > -1) & (scores >= threshold)).nonzero(as_tuple=True)
    coder = CoderConfig(variances=Variances(*variances), max_log_ratio=None)
    codes = loc_pred.reshape(batch, anchors, 4)[images, places]
    boxes = decode_boxes(codes, xyxy_to_cxcywh(anchor[0])[places], coder)
    boxes = boxes.clamp(0, 1) if clip else boxes
    rows = torch.cat([ids[images, places, None].to(boxes.dtype), scores[images, places, None], boxes], dim=1)
    result[images, rank_in_groups(images)] = rows
    if 0 < nms_threshold <= 1 and len(rows):
        _suppress(result, rows, images, nms_threshold, force_suppress, nms_topk)
    return result


def _suppress(
    result: Tensor, rows: Tensor, images: Tensor, nms_threshold: float, force_suppress: bool, nms_topk: int
) -> None:
    """Sort, cut and suppress compacted rows in place.

    Of each image the first ``nms_topk`` rows become the best ones; the others stay as they were, without a class.
    """
    order = torch.argsort(rows[:, 1], descending=True, stable=True)
    order = order[torch.argsort(images[order], stable=True)]
    rows, place = rows[order], rank_in_groups(images)
    entering = place < nms_topk if nms_topk > 0 else torch.ones_like(place, dtype=torch.bool)
    result[images[~entering], place[~entering], 0] = -1.0
    rows, images, place = rows[entering], images[entering], place[entering]
    kinds = torch.zeros_like(images) if force_suppress else rows[:, 0].long()
    groups = torch.unique(torch.stack([images, kinds]), dim=1, return_inverse=True)[1]
    kept = greedy_nms(rows[:, 1], images, groups, lambda which: rows[which, 2:], NmsConfig(nms_threshold, ">=")).rows
    alive = torch.zeros_like(images, dtype=torch.bool).index_fill_(0, kept, True)
    rows[:, 0] = torch.where(alive, rows[:, 0], -1.0)
    result[images, place] = rows


def _require(met: bool, message: str) -> None:
    if not met:
        raise ValueError(message)
