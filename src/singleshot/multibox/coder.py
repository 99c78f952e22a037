"""Boxes to codes and back: what a head's four numbers mean (SSD eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from singleshot.core.boxes import xyxy_to_cxcywh
from singleshot.core.settings import CoderConfig

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
    x, y = ((boxes[..., :2] - centres) / sizes).unbind(-1)
    w, h = (boxes[..., 2:] / sizes).clamp(min=MIN_RATIO).log().unbind(-1)
    by = coder.variances
    return torch.stack(_ordered((x / by.cx, y / by.cy, w / by.w, h / by.h), coder), dim=-1)


def decode_boxes(codes: Tensor, anchors_cxcywh: Tensor, coder: CoderConfig = CODER) -> Tensor:
    """Boxes that predicted codes mean (SSD eq. 2 inverted).

    Args:
        codes: ``[..., 4]``.
        anchors_cxcywh: one anchor per code, broadcast, ``[..., 4]``.
        coder: variances, order of the codes, limit of the log ratio.

    Returns:
        xyxy in the unit of the anchors, not clipped, ``[..., 4]``.
    """
    x, y, w, h = _ordered(codes.unbind(-1), coder)
    anchor_x, anchor_y, anchor_w, anchor_h = anchors_cxcywh.unbind(-1)
    by = coder.variances
    centre_x, centre_y = anchor_x + x * by.cx * anchor_w, anchor_y + y * by.cy * anchor_h
    half_w = _exp(w * by.w, coder.max_log_ratio) * anchor_w / 2
    half_h = _exp(h * by.h, coder.max_log_ratio) * anchor_h / 2
    corners = (centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h)
    return torch.stack(corners, dim=-1)


def _exp(log_ratios: Tensor, limit: float | None) -> Tensor:
    return log_ratios.exp() if limit is None else log_ratios.clamp(max=limit).exp()


def _ordered(codes: Sequence[Tensor], coder: CoderConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x, y, w, h) in the order of the codes, or back."""
    x, y, w, h = codes
    return (y, x, h, w) if coder.order == "yxhw" else (x, y, w, h)
