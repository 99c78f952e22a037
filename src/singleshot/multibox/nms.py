"""Non-maximum suppression: exact greedy, batched over images and classes, and soft-NMS."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from singleshot.boxes import aligned_iou

Compare = Literal[">", ">="]


def greedy_keep(boxes_xyxy: Tensor, groups: Tensor, iou_threshold: float, compare: Compare = ">") -> Tensor:
    """Exact greedy NMS within each group of boxes.

    A box survives if no surviving earlier box of its group overlaps it too much. All groups are resolved together.

    Args:
        boxes_xyxy: corners, best score first within each group, ``[N, 4]``.
        groups: boxes suppress only boxes of their own group (an image's class), ``[N]`` int64.
        iou_threshold: overlap that suppresses.
        compare: whether a box at exactly the threshold is suppressed (``>=``) or kept (``>``).

    Returns:
        ``[N]`` bool.
    """
    keep = torch.ones(len(groups), dtype=torch.bool, device=groups.device)
    if len(groups) < 2:
        return keep
    ordered, order = torch.sort(groups, stable=True)
    weaker, stronger = _overlapping_pairs(boxes_xyxy[order], ordered, iou_threshold, compare)
    keep[order] = _settle(weaker, stronger, len(groups))
    return keep


def _overlapping_pairs(boxes: Tensor, groups: Tensor, threshold: float, compare: Compare) -> tuple[Tensor, Tensor]:
    """(later, earlier) rows of the same group that overlap too much; ``groups`` is sorted."""
    _, sizes = torch.unique_consecutive(groups, return_counts=True)
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    later, earlier = ragged_ranges(starts, torch.arange(len(groups), device=groups.device) - starts)
    iou = aligned_iou(boxes[later], boxes[earlier])
    overlap = iou > threshold if compare == ">" else iou >= threshold
    return later[overlap], earlier[overlap]


def _settle(weaker: Tensor, stronger: Tensor, count: int) -> Tensor:
    """Survivors of suppression edges that all point from earlier to later rows.

    Applying "kept unless a kept one suppresses it" to all rows at once settles one more link of every chain each time,
    and the result of the greedy pass is its only fixed point.
    """
    keep = torch.ones(count, dtype=torch.bool, device=weaker.device)
    while True:
        following = torch.ones_like(keep)
        following[weaker[keep[stronger]]] = False
        if torch.equal(following, keep):
            return keep
        keep = following


def ragged_ranges(starts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """All of ``starts[i] ... starts[i] + counts[i] - 1`` in a row, and the ``i`` that each belongs to."""
    owners = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    shift = starts - (counts.cumsum(0) - counts)
    return owners, torch.arange(len(owners), device=counts.device) + shift[owners]
