"""RefineDet's two steps on top of the multibox core (arXiv 1711.06897): refine anchors, then detect from them."""

from __future__ import annotations

import torch
from torch import Tensor

from singleshot.core.boxes import xyxy_to_cxcywh
from singleshot.core.settings import CoderConfig, LossConfig, MatchConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.multibox.coder import CODER, decode_boxes
from singleshot.multibox.loss import LOSS, Sum, alone, assign_targets, full_precision, multibox_loss, targets_loss
from singleshot.multibox.matching import MATCH, match_anchors

MIN_OBJECTNESS = 0.01
"""One minus the paper's theta of .99: anchors that the first step calls background this surely are left out."""


def refine_loss(
    output: RefineOutput,
    anchors_cxcywh: Tensor,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    valid: Tensor,
    *,
    coder: CoderConfig = CODER,
    match: MatchConfig = MATCH,
    loss: LossConfig = LOSS,
    min_objectness: float = MIN_OBJECTNESS,
    filter_positives: bool = False,
    sum_counts: Sum = alone,
) -> dict[str, Tensor]:
    """Loss of both steps (RefineDet section 3.3); each is a multibox loss divided by its own positives.

    The first step (ARM) sees every object as one class. The second (ODM) is matched and encoded against the anchors
    that the first has moved; no gradient flows through them.

    Args:
        output: heads of both steps.
        anchors_cxcywh: default boxes, ``[A, 4]``.
        boxes_xyxy: objects in the unit of the anchors, padded, ``[B, M, 4]``.
        class_ids: 0..C-1, ``[B, M]``.
        valid: which rows are objects, ``[B, M]`` bool.
        coder, match, loss: dialect of both steps.
        min_objectness: anchors whose object probability is not above this teach the second step no background.
        filter_positives: drop such anchors from the second step's positives as well (RefineDet.PyTorch).
        sum_counts: as in `multibox_loss`; called once by each step.

    Returns:
        0-dim tensors ``arm_classification``, ``arm_localization``, ``classification``, ``localization``, ``total``,
        and the second step's ``positives``, detached.
    """
    arm = HeadOutput(output.arm_box_codes, output.arm_logits)
    first = multibox_loss(
        arm,
        anchors_cxcywh,
        boxes_xyxy,
        torch.zeros_like(class_ids),
        valid,
        coder=coder,
        match=match,
        loss=loss,
        sum_counts=sum_counts,
    )
    with torch.autocast(anchors_cxcywh.device.type, enabled=False):
        refined = refine_anchors(output, anchors_cxcywh, coder)
        matches = match_anchors(refined, boxes_xyxy, valid, match)
        targets = assign_targets(matches, boxes_xyxy, class_ids, loss.negative_iou)
        likely = objectness(output) > min_objectness
        targets = targets._replace(eligible_mask=targets.eligible_mask & likely)
        if filter_positives:
            targets = targets._replace(object_index=torch.where(likely, targets.object_index, -1))
        odm = HeadOutput(output.box_codes, output.class_logits)
        second = targets_loss(odm, refined, targets, coder=coder, loss=loss, sum_counts=sum_counts)
    return {
        "arm_classification": first["classification"],
        "arm_localization": first["localization"],
        "classification": second["classification"],
        "localization": second["localization"],
        "total": first["total"] + second["total"],
        "positives": second["positives"],
    }


@torch.no_grad()
def refine_anchors(output: RefineOutput, anchors_cxcywh: Tensor, coder: CoderConfig = CODER) -> Tensor:
    """Anchors moved by the first step, cxcywh, ``[B, A, 4]``, without gradient."""
    return xyxy_to_cxcywh(decode_boxes(full_precision(output.arm_box_codes), anchors_cxcywh, coder))


@torch.no_grad()
def objectness(output: RefineOutput) -> Tensor:
    """Object probability of the first step, ``[B, A]``."""
    return full_precision(output.arm_logits).softmax(dim=-1)[..., 1]
