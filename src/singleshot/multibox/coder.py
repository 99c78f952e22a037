"""Boxes to codes and back: what a head's four numbers mean (SSD eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from singleshot.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from singleshot.config import CoderConfig

MIN_RATIO = 1e-7
"""Objects are taken as no smaller than this part of their anchor, so that the log is finite. An anchor matched with an
IoU above 1e-6 is never affected: IoU <= object side / anchor side."""

CODER = CoderConfig()


def encode_boxes(boxes_xyxy: Tensor, anchors_cxcywh: Tensor, coder: CoderConfig = CODER) -> Tensor:
    """Regression targets of boxes relative to anchors (SSD eq. 2).

    Args:
        boxes_xyxy: objects, ``[..., 4]``.
        anchors_cxcywh: one anchor per object in the same unit, broadcast, ``[..., 4]``.
        coder: variances and order of the codes.

    Returns:
        Codes, ``[..., 4]``; finite for any finite box.
    """
    boxes = xyxy_to_cxcywh(boxes_xyxy)
    centres, sizes = anchors_cxcywh[..., :2], anchors_cxcywh[..., 2:].clamp(min=MIN_RATIO)
    offsets = (boxes[..., :2] - centres) / sizes
    ratios = (boxes[..., 2:] / sizes).clamp(min=MIN_RATIO).log()
    codes = torch.cat([offsets, ratios], dim=-1) / boxes.new_tensor(coder.variances)
    return _swap(codes) if coder.order == "yxhw" else codes


def decode_boxes(codes: Tensor, anchors_cxcywh: Tensor, coder: CoderConfig = CODER) -> Tensor:
    """Boxes that predicted codes mean (SSD eq. 2 inverted).

    Args:
        codes: ``[..., 4]``.
        anchors_cxcywh: one anchor per code, broadcast, ``[..., 4]``.
        coder: variances, order of the codes, limit of the log ratio.

    Returns:
        xyxy in the unit of the anchors, not clipped, ``[..., 4]``.
    """
    ordered = _swap(codes) if coder.order == "yxhw" else codes
    scaled = ordered * ordered.new_tensor(coder.variances)
    centres, sizes = anchors_cxcywh[..., :2], anchors_cxcywh[..., 2:]
    boxes = torch.cat([centres + scaled[..., :2] * sizes, _exp(scaled[..., 2:], coder.max_log_ratio) * sizes], dim=-1)
    return cxcywh_to_xyxy(boxes)


def _exp(log_ratios: Tensor, limit: float | None) -> Tensor:
    return log_ratios.exp() if limit is None else log_ratios.clamp(max=limit).exp()


def _swap(codes: Tensor) -> Tensor:
    """(x, y, w, h) to (y, x, h, w) and back."""
    return codes[..., [1, 0, 3, 2]]
