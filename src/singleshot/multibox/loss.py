"""The multibox loss (SSD eq. 1 to 3): named parts, normalised by the matched anchors, finite for any finite input.

Equals `plain.multibox_loss`, of a whole batch at once. Which loss compares classes and which boxes is looked up by name
(`class_losses`, `box_losses`, or another package's).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from singleshot.core.boxes import aligned_iou
from singleshot.core.settings import BOX_LOSSES, CLASS_LOSSES, CoderConfig, LossConfig, MatchConfig
from singleshot.core.structures import HeadOutput
from singleshot.multibox.alignment import align
from singleshot.multibox.coder import CODER, decode_boxes
from singleshot.multibox.matching import MATCH, Matches, match_anchors
from singleshot.multibox.mining import count_negatives, mine_negatives
from singleshot.multibox.rows import masked_rows, masked_sum

LOSS = LossConfig()

Sum = Callable[[Tensor], Tensor]
"""From a count of this process to that of all processes that learn together."""


def alone(count: Tensor) -> Tensor:
    """The sum over one process."""
    return count


class Targets(NamedTuple):
    """What the anchors of a batch should learn.

    Attributes:
        object_index: object of each anchor, -1 for none, ``[B, A]`` int64.
        eligible_mask: anchors that may be mined as negatives, ``[B, A]`` bool.
        boxes_xyxy: objects, ``[B, M, 4]``.
        class_ids: their classes 0..C-1, ``[B, M]``.
        quality: of each anchor's prediction, 0..1, ``[B, A]``; ``None``: the IoU of the predicted box, where a loss
            asks for it.
    """

    object_index: Tensor
    eligible_mask: Tensor
    boxes_xyxy: Tensor
    class_ids: Tensor
    quality: Tensor | None = None


def multibox_loss(
    output: HeadOutput,
    anchors_cxcywh: Tensor,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    valid: Tensor,
    *,
    coder: CoderConfig = CODER,
    match: MatchConfig = MATCH,
    loss: LossConfig = LOSS,
    sum_counts: Sum = alone,
) -> dict[str, Tensor]:
    """Match, mine and compare (SSD eq. 1).

    Computed in float32 whatever autocast says, and without a wait for the device.

    Args:
        output: box codes ``[B, A, 4]`` and class logits ``[B, A, K]``.
        anchors_cxcywh: default boxes, ``[A, 4]`` (or per image, ``[B, A, 4]``).
        boxes_xyxy: objects in the unit of the anchors, padded, ``[B, M, 4]``; M may be 0.
        class_ids: 0..K-2, anything where padded, ``[B, M]``.
        valid: which rows are objects, ``[B, M]`` bool.
        coder, match, loss: the dialect.
        sum_counts: sums a count over the processes that each have a part of the batch. Losses are divided by the
            positives of the whole batch, so that their sum over the processes is the loss of the whole batch.

    Returns:
        0-dim tensors: ``classification`` and ``localization``, each divided by max(1, positives);
        ``total = classification + box_weight * localization``; ``positives``, detached.
    """
    with torch.autocast(anchors_cxcywh.device.type, enabled=False):
        if match.assign == "predictions":
            return targets_loss(
                output,
                anchors_cxcywh,
                align_targets(output, anchors_cxcywh, boxes_xyxy, class_ids, valid, coder, match, loss),
                coder=coder,
                loss=loss,
                sum_counts=sum_counts,
            )
        matches = match_anchors(anchors_cxcywh, boxes_xyxy, valid, match)
        targets = assign_targets(matches, boxes_xyxy, class_ids, loss.negative_iou)
        return targets_loss(output, anchors_cxcywh, targets, coder=coder, loss=loss, sum_counts=sum_counts)


def align_targets(
    output: HeadOutput,
    anchors_cxcywh: Tensor,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    valid: Tensor,
    coder: CoderConfig,
    match: MatchConfig,
    loss: LossConfig,
) -> Targets:
    """Targets by how well the anchors predict (``assign: predictions``); arguments as in ``multibox_loss``."""
    matches = match_anchors(anchors_cxcywh, boxes_xyxy, valid, match)
    codes, logits = full_precision(output.box_codes.detach()), full_precision(output.class_logits.detach())
    kind = CLASS_LOSSES.get(loss.classification).score_function
    scores = logits.softmax(dim=-1) if kind == "softmax" else logits.sigmoid()
    predicted = decode_boxes(codes, anchors_cxcywh, coder)
    object_index, quality = align(
        predicted, scores[..., 1:], anchors_cxcywh, boxes_xyxy, class_ids, valid, matches, match
    )
    targets = assign_targets(matches._replace(object_index=object_index), boxes_xyxy, class_ids, loss.negative_iou)
    return targets._replace(eligible_mask=object_index < 0, quality=quality)


def assign_targets(matches: Matches, boxes_xyxy: Tensor, class_ids: Tensor, negative_iou: float) -> Targets:
    """Turn matches into targets: unmatched anchors may be negatives if their best IoU is below ``negative_iou``."""
    if class_ids.shape[1] == 0:  # something to look up, though no anchor will
        boxes_xyxy, class_ids = F.pad(boxes_xyxy, (0, 0, 0, 1)), F.pad(class_ids, (0, 1))
    return Targets(matches.object_index, matches.eligible_mask(negative_iou), boxes_xyxy, class_ids)


def targets_loss(
    output: HeadOutput,
    anchors_cxcywh: Tensor,
    targets: Targets,
    *,
    coder: CoderConfig = CODER,
    loss: LossConfig = LOSS,
    sum_counts: Sum = alone,
) -> dict[str, Tensor]:
    """Compare a head's output with targets; other arguments and result as in ``multibox_loss``."""
    logits, codes = full_precision(output.class_logits), full_precision(output.box_codes)
    positive_mask = targets.object_index >= 0
    num_positives = positive_mask.sum(dim=1)
    negative_mask = choose_negatives(logits, targets.eligible_mask, num_positives, loss)
    total_positives = num_positives.sum()
    divisor = sum_counts(total_positives).clamp(min=1)
    if targets.quality is None and CLASS_LOSSES.get(loss.classification).by_quality is not None:
        targets = targets._replace(quality=predicted_iou(codes, anchors_cxcywh, targets, coder))
    classification = _classification(logits, targets, positive_mask | negative_mask, loss) / divisor
    localization = _localization(codes, anchors_cxcywh, targets, positive_mask, coder, loss) / divisor
    return {
        "classification": classification,
        "localization": localization,
        "total": classification + loss.box_weight * localization,
        "positives": total_positives,
    }


def full_precision(values: Tensor) -> Tensor:
    """In float32, if the format has fewer bits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@torch.no_grad()
def choose_negatives(logits: Tensor, eligible_mask: Tensor, num_positives: Tensor, config: LossConfig) -> Tensor:
    """Which anchors learn background: the hardest, or all eligible ones where the loss does without mining.

    Args:
        logits: ``[B, A, K]``.
        eligible_mask: anchors that may be chosen, ``[B, A]`` bool.
        num_positives: matched anchors of each image, ``[B]``.
        config: the loss and its ratio of negatives.

    Returns:
        ``[B, A]`` bool.
    """
    hardness = CLASS_LOSSES.get(config.classification).hardness
    if hardness is None:
        return eligible_mask
    num_negatives = count_negatives(num_positives, config.negative_ratio, config.min_negatives)
    return mine_negatives(hardness(logits), eligible_mask, num_negatives)


def _classification(logits: Tensor, targets: Targets, sampled_mask: Tensor, config: LossConfig) -> Tensor:
    """Summed classification loss of the positives and negatives, ``sampled_mask [B, A]`` bool."""
    rows = masked_rows(sampled_mask)
    _, objects = _matched_objects(targets, rows)
    columns = torch.where(targets.object_index.flatten()[rows] >= 0, targets.class_ids.flatten()[objects] + 1, 0)
    kind, chosen = CLASS_LOSSES.get(config.classification), logits.flatten(0, 1)[rows]
    if kind.by_quality is not None and targets.quality is not None:
        return masked_sum(kind.by_quality(chosen, columns, config, targets.quality.flatten()[rows]), sampled_mask)
    if kind.per_row is None:
        raise ValueError(f"the class loss '{config.classification}' has neither per_row nor by_quality")
    return masked_sum(kind.per_row(chosen, columns, config), sampled_mask)


@torch.no_grad()
def predicted_iou(codes: Tensor, anchors_cxcywh: Tensor, targets: Targets, coder: CoderConfig) -> Tensor:
    """IoU of each anchor's predicted box with its object, 0 without one, ``[B, A]``."""
    positive_mask = targets.object_index >= 0
    rows = masked_rows(positive_mask)
    numbers, objects = _matched_objects(targets, rows)
    anchors = anchors_cxcywh.reshape(-1, 4)[numbers % (anchors_cxcywh.numel() // 4)]
    boxes = targets.boxes_xyxy.flatten(0, 1)[objects]
    quality = torch.zeros(positive_mask.numel(), dtype=codes.dtype, device=codes.device)
    quality[rows] = aligned_iou(decode_boxes(codes.flatten(0, 1)[rows], anchors, coder), boxes)
    return torch.where(positive_mask, quality.view(positive_mask.shape), 0.0)


def _localization(
    codes: Tensor,
    anchors_cxcywh: Tensor,
    targets: Targets,
    positive_mask: Tensor,
    coder: CoderConfig,
    config: LossConfig,
) -> Tensor:
    """Summed box loss of the positives (SSD eq. 2)."""
    rows = masked_rows(positive_mask)
    numbers, objects = _matched_objects(targets, rows)
    anchors = anchors_cxcywh.reshape(-1, 4)[numbers % (anchors_cxcywh.numel() // 4)]
    boxes = targets.boxes_xyxy.flatten(0, 1)[objects]
    per_row = BOX_LOSSES.get(config.box)
    return masked_sum(per_row(codes.flatten(0, 1)[rows], boxes, anchors, coder, config), positive_mask)


def _matched_objects(targets: Targets, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
    """Anchors' numbers in the flattened batch, and their objects' in the flattened objects (some object, if none)."""
    batch, anchors = targets.object_index.shape
    numbers = torch.arange(batch * anchors, device=targets.object_index.device)[rows]
    own = targets.object_index.flatten()[rows].clamp(min=0)
    return numbers, numbers // anchors * targets.class_ids.shape[1] + own
