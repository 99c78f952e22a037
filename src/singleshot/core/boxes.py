"""Box arithmetic on torch tensors. Corners are (x0, y0, x1, y1); any one unit; no Python loops."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Corners to (centre x, centre y, width, height), ``[..., 4]``."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """(Centre x, centre y, width, height) to corners, ``[..., 4]``."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def box_area(boxes_xyxy: Tensor) -> Tensor:
    """Areas of corner boxes, 0 for inverted ones, ``[..., 4]`` -> ``[...]``."""
    sides = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


@torch.no_grad()
def pairwise_iou(boxes_a: Tensor, boxes_b: Tensor, union_eps: float = 0.0) -> Tensor:
    """IoU of every box of ``a`` with every box of ``b``; 0 where the union is 0. Carries no gradient.

    Args:
        boxes_a: corners, ``[..., N, 4]``.
        boxes_b: corners in the same unit, ``[..., M, 4]``; leading dimensions broadcast.
        union_eps: added to every union.

    Returns:
        ``[..., N, M]``.
    """
    ax0, ay0, ax1, ay1 = boxes_a.movedim(-1, 0).unsqueeze(-1).contiguous()
    bx0, by0, bx1, by1 = boxes_b.movedim(-1, 0).unsqueeze(-2).contiguous()
    # In place: the largest arrays of training are made here, and fresh memory costs more than the arithmetic.
    intersection = torch.minimum(ax1, bx1).sub_(torch.maximum(ax0, bx0)).clamp_(min=0)
    intersection.mul_(torch.minimum(ay1, by1).sub_(torch.maximum(ay0, by0)).clamp_(min=0))
    union = (box_area(boxes_a).unsqueeze(-1) + box_area(boxes_b).unsqueeze(-2)).sub_(intersection)
    if union_eps:
        union.add_(union_eps)
    # Only where both boxes are empty is the union 0, and then so is the intersection. Infinite boxes give NaN.
    return intersection.div_(union.clamp_(min=torch.finfo(union.dtype).tiny)).nan_to_num_(nan=0.0)


def aligned_iou(boxes_a: Tensor, boxes_b: Tensor, union_eps: float = 0.0) -> Tensor:
    """IoU of boxes pair by pair, 0 where the union is 0, ``[..., 4]`` twice -> ``[...]``.

    ``union_eps`` is added to every union.
    """
    sides = torch.minimum(boxes_a[..., 2:], boxes_b[..., 2:]) - torch.maximum(boxes_a[..., :2], boxes_b[..., :2])
    intersection = sides.clamp(min=0).prod(dim=-1)
    return _ratio(intersection, box_area(boxes_a) + box_area(boxes_b) - intersection + union_eps)


def giou_penalty(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Part of the smallest enclosing box that neither box covers (arXiv 1902.09630), pair by pair."""
    sides = torch.minimum(boxes_a[..., 2:], boxes_b[..., 2:]) - torch.maximum(boxes_a[..., :2], boxes_b[..., :2])
    union = box_area(boxes_a) + box_area(boxes_b) - sides.clamp(min=0).prod(dim=-1)
    hull = box_area(_hull(boxes_a, boxes_b))
    return _ratio(hull - union, hull)


def diou_penalty(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the enclosing box (arXiv 1911.08287)."""
    hull = _hull(boxes_a, boxes_b)
    apart = (boxes_a[..., :2] + boxes_a[..., 2:] - boxes_b[..., :2] - boxes_b[..., 2:]) / 2
    return _ratio(apart.square().sum(dim=-1), (hull[..., 2:] - hull[..., :2]).square().sum(dim=-1))


def ciou_penalty(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Difference of the aspect ratios, weighted by how well the boxes overlap (arXiv 1911.08287, eq. 9 and 10)."""
    angle_a, angle_b = (torch.atan2(*_sides(boxes).unbind(-1)) for boxes in (boxes_a, boxes_b))
    difference = (4 / math.pi**2) * (angle_a - angle_b).square()
    with torch.no_grad():
        weight = _ratio(difference, 1 - aligned_iou(boxes_a, boxes_b) + difference)
    return weight * difference


def _sides(boxes_xyxy: Tensor) -> Tensor:
    """Widths and heights, at least a little, so that the gradient of their angle is finite."""
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=1e-6)


def _hull(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    low, high = torch.minimum(boxes_a[..., :2], boxes_b[..., :2]), torch.maximum(boxes_a[..., 2:], boxes_b[..., 2:])
    return torch.cat([low, high], dim=-1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, 0 where ``whole`` is not positive; the gradient is finite there too."""
    positive = whole > 0
    return torch.where(positive, part / torch.where(positive, whole, 1.0), 0.0)


def clip_to_image(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Clamp corners to an image of ``size_hw``, ``[..., 4]`` in pixels."""
    height, width = size_hw
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    return torch.stack([x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], dim=-1)
