"""The multibox loss (SSD eq. 1 to 3): named parts, normalised by the matched anchors, finite for any finite input."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from singleshot.core.boxes import aligned_iou, diou_penalty, giou_penalty
from singleshot.core.settings import CoderConfig, LossConfig, MatchConfig
from singleshot.core.structures import HeadOutput
from singleshot.multibox.coder import CODER, decode_boxes, encode_boxes
from singleshot.multibox.matching import MATCH, Matches, match_anchors
from singleshot.multibox.mining import mine_negatives, wanted_negatives
from singleshot.multibox.rows import counting_is_free

LOSS = LossConfig()

BLOCK_ROWS = 16384
"""Anchors whose logits are looked at together: about a megabyte."""


class Targets(NamedTuple):
    """What the anchors of a batch should learn.

    Attributes:
        object_index: object of each anchor, -1 for none, ``[B, A]`` int64.
        candidates: anchors without an object that may learn background, ``[B, A]`` bool.
        boxes_xyxy: objects, ``[B, M, 4]``.
        class_ids: their classes 0..C-1, ``[B, M]``.
    """

    object_index: Tensor
    candidates: Tensor
    boxes_xyxy: Tensor
    class_ids: Tensor


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

    Returns:
        0-dim tensors: ``classification`` and ``localization``, each divided by max(1, positives);
        ``total = classification + box_weight * localization``; ``positives``, detached.
    """
    with torch.autocast(anchors_cxcywh.device.type, enabled=False):
        matches = match_anchors(anchors_cxcywh, boxes_xyxy, valid, match)
        targets = assign_targets(matches, boxes_xyxy, class_ids, loss.negative_iou)
        return targets_loss(output, anchors_cxcywh, targets, coder=coder, loss=loss)


def assign_targets(matches: Matches, boxes_xyxy: Tensor, class_ids: Tensor, negative_iou: float) -> Targets:
    """Turn matches into targets: background may be learned by free anchors whose best IoU is below ``negative_iou``."""
    free = matches.object_index < 0
    if class_ids.shape[1] == 0:  # something to look up, though no anchor will
        boxes_xyxy, class_ids = F.pad(boxes_xyxy, (0, 0, 0, 1)), F.pad(class_ids, (0, 1))
    return Targets(matches.object_index, free & (matches.best_iou < negative_iou), boxes_xyxy, class_ids)


def targets_loss(
    output: HeadOutput,
    anchors_cxcywh: Tensor,
    targets: Targets,
    *,
    coder: CoderConfig = CODER,
    loss: LossConfig = LOSS,
) -> dict[str, Tensor]:
    """Compare a head's output with targets; other arguments and result as in ``multibox_loss``."""
    positive = targets.object_index >= 0
    positives = positive.sum(dim=1)
    count = positives.sum()
    teaching = positive | _negatives(_full_precision(output.class_logits), targets, positives, loss)
    classification = _classification(_full_precision(output.class_logits), targets, teaching, loss) / count.clamp(min=1)
    codes = _full_precision(output.box_codes)
    localization = _localization(codes, anchors_cxcywh, targets, positive, coder, loss) / count.clamp(min=1)
    return {
        "classification": classification,
        "localization": localization,
        "total": classification + loss.box_weight * localization,
        "positives": count,
    }


def _full_precision(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


@torch.no_grad()
def _negatives(logits: Tensor, targets: Targets, positives: Tensor, config: LossConfig) -> Tensor:
    """Which anchors learn background: all candidates with focal loss, else the hardest, ``[B, A]`` bool."""
    if config.classification == "focal":
        return targets.candidates
    wanted = wanted_negatives(positives, config.negative_ratio, config.min_negatives)
    return mine_negatives(background_loss(logits, config.classification), targets.candidates, wanted)


def _rows(mask: Tensor) -> Tensor | slice:
    """Which rows of a flattened batch a sum needs.

    On the host only those in ``mask``: gradients of the many others would be computed for nothing. On a GPU all of
    them: there they cost little, and counting would wait for the device.
    """
    return mask.flatten().nonzero().squeeze(1) if counting_is_free(mask) else slice(None)


def _masked_sum(losses: Tensor, mask: Tensor) -> Tensor:
    """Sum over the rows of ``mask``, of which ``losses`` holds all, or exactly those."""
    return losses.sum() if counting_is_free(mask) else torch.where(mask.flatten(), losses, 0.0).sum()


def _object_rows(targets: Targets, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
    """Anchors' numbers in the flattened batch, and their objects' in the flattened objects (some object, if none)."""
    batch, anchors = targets.object_index.shape
    numbers = torch.arange(batch * anchors, device=targets.object_index.device)[rows]
    own = targets.object_index.flatten()[rows].clamp(min=0)
    return numbers, numbers // anchors * targets.class_ids.shape[1] + own


def _classification(logits: Tensor, targets: Targets, teaching: Tensor, config: LossConfig) -> Tensor:
    """Summed classification loss of the anchors in ``teaching``, ``[B, A]`` bool."""
    rows = _rows(teaching)
    _, objects = _object_rows(targets, rows)
    columns = torch.where(targets.object_index.flatten()[rows] >= 0, targets.class_ids.flatten()[objects] + 1, 0)
    return _masked_sum(class_losses(logits.flatten(0, 1)[rows], columns, config), teaching)


def _localization(
    codes: Tensor, anchors_cxcywh: Tensor, targets: Targets, positive: Tensor, coder: CoderConfig, config: LossConfig
) -> Tensor:
    """Summed box loss of the positives (SSD eq. 2)."""
    rows = _rows(positive)
    numbers, objects = _object_rows(targets, rows)
    anchors = anchors_cxcywh.reshape(-1, 4)[numbers % (anchors_cxcywh.numel() // 4)]
    boxes = targets.boxes_xyxy.flatten(0, 1)[objects]
    return _masked_sum(box_losses(codes.flatten(0, 1)[rows], boxes, anchors, coder, config), positive)


def background_loss(logits: Tensor, kind: str) -> Tensor:
    """Loss of each anchor if it were background, which ranks negatives, ``[..., K]`` -> ``[...]``."""
    if kind == "softmax":
        return _log_sum_exp(logits).sub_(logits[..., 0])
    return F.softplus(logits[..., 1:]).sum(dim=-1)


def _log_sum_exp(logits: Tensor) -> Tensor:
    """``logsumexp`` over the last dimension; on a CPU several times as fast unless a row needs its maximum taken out.

    There the rows are exponentiated in blocks that stay in the cache.
    """
    if counting_is_free(logits):
        blocks = torch.split(logits.flatten(0, -2), BLOCK_ROWS)
        total = torch.cat([block.exp().sum(dim=-1) for block in blocks])
        if bool(((total > 1e-30) & (total < 1e30)).all()):
            return total.log_().view(logits.shape[:-1])
    return torch.logsumexp(logits, dim=-1)


def class_losses(logits: Tensor, columns: Tensor, config: LossConfig) -> Tensor:
    """Classification loss of each row.

    ``softmax`` is SSD eq. 3. ``sigmoid`` and ``focal`` (arXiv 1708.02002, eq. 5) treat each foreground column on its
    own and leave column 0 alone: inference does not read it.

    Args:
        logits: ``[S, K]``.
        columns: target column, 0 is background, ``[S]``.
        config: kind, smoothing, balance and focus.
    """
    if config.classification == "softmax":
        return _softmax_losses(logits, columns, config.label_smoothing)
    truth = (columns[:, None] == torch.arange(1, logits.shape[-1], device=columns.device)).to(logits.dtype)
    signed = logits[:, 1:] * (2 * truth - 1)
    losses = F.softplus(-signed)
    if config.classification == "focal":
        balance = truth * config.focal_alpha + (1 - truth) * (1 - config.focal_alpha)
        # (1 - p_t) ** gamma, as an exponential so that neither value nor gradient overflows.
        losses = balance * torch.exp(-config.focal_gamma * F.softplus(signed)) * losses
    return losses.sum(dim=-1)


def _softmax_losses(logits: Tensor, columns: Tensor, smoothing: float) -> Tensor:
    log_probabilities = torch.log_softmax(logits, dim=-1)
    right = log_probabilities.gather(1, columns[:, None]).squeeze(1)
    if smoothing == 0:
        return -right
    others = log_probabilities.sum(dim=1) - right
    return -(1 - smoothing) * right - smoothing / max(1, logits.shape[1] - 1) * others


def box_losses(
    codes: Tensor, boxes_xyxy: Tensor, anchors_cxcywh: Tensor, coder: CoderConfig, config: LossConfig
) -> Tensor:
    """Box loss of each row: smooth L1 summed over the four codes, or an IoU loss of the decoded box.

    Args:
        codes: predicted, ``[S, 4]``.
        boxes_xyxy: the anchors' objects, ``[S, 4]``.
        anchors_cxcywh: ``[S, 4]``.
        coder: how codes and boxes relate.
        config: ``smooth_l1``, ``giou`` (arXiv 1902.09630) or ``diou`` (arXiv 1911.08287).
    """
    if config.box == "smooth_l1":
        goal = encode_boxes(boxes_xyxy, anchors_cxcywh, coder)
        return F.smooth_l1_loss(codes, goal, reduction="none", beta=config.smooth_l1_beta).sum(dim=-1)
    predicted = decode_boxes(codes, anchors_cxcywh, coder)
    penalty = giou_penalty if config.box == "giou" else diou_penalty
    return 1 - aligned_iou(predicted, boxes_xyxy) + penalty(predicted, boxes_xyxy)
