"""The box losses that ``LossConfig.box`` names. Each is one registered function of type `BoxLoss`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from singleshot.core.boxes import aligned_iou, ciou_penalty, diou_penalty, giou_penalty
from singleshot.core.settings import BOX_LOSSES, CoderConfig, LossConfig
from singleshot.multibox.coder import decode_boxes, encode_boxes


@BOX_LOSSES.register("smooth_l1")
def smooth_l1_losses(
    codes: Tensor, boxes_xyxy: Tensor, anchors_cxcywh: Tensor, coder: CoderConfig, config: LossConfig
) -> Tensor:
    """Smooth L1 of the four codes, summed (SSD eq. 2); equals `plain.smooth_l1`."""
    target = encode_boxes(boxes_xyxy, anchors_cxcywh, coder)
    return F.smooth_l1_loss(codes, target, reduction="none", beta=config.smooth_l1_beta).sum(dim=-1)


@BOX_LOSSES.register("giou")
def giou_losses(
    codes: Tensor, boxes_xyxy: Tensor, anchors_cxcywh: Tensor, coder: CoderConfig, config: LossConfig
) -> Tensor:
    """1 - GIoU of the decoded boxes (arXiv 1902.09630)."""
    predicted = decode_boxes(codes, anchors_cxcywh, coder)
    return 1 - aligned_iou(predicted, boxes_xyxy) + giou_penalty(predicted, boxes_xyxy)


@BOX_LOSSES.register("diou")
def diou_losses(
    codes: Tensor, boxes_xyxy: Tensor, anchors_cxcywh: Tensor, coder: CoderConfig, config: LossConfig
) -> Tensor:
    """1 - DIoU of the decoded boxes (arXiv 1911.08287)."""
    predicted = decode_boxes(codes, anchors_cxcywh, coder)
    return 1 - aligned_iou(predicted, boxes_xyxy) + diou_penalty(predicted, boxes_xyxy)


@BOX_LOSSES.register("ciou")
def ciou_losses(
    codes: Tensor, boxes_xyxy: Tensor, anchors_cxcywh: Tensor, coder: CoderConfig, config: LossConfig
) -> Tensor:
    """1 - CIoU of the decoded boxes (arXiv 1911.08287)."""
    predicted = decode_boxes(codes, anchors_cxcywh, coder)
    overlap = aligned_iou(predicted, boxes_xyxy)
    return 1 - overlap + diou_penalty(predicted, boxes_xyxy) + ciou_penalty(predicted, boxes_xyxy)
