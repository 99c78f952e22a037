"""Exact greedy non-maximum suppression, batched over images and classes.

Candidates are flat lists: a score, a box, an image, and a group within which boxes suppress each other (an image's
class, or the image). Work goes in blocks of each image's best remaining candidates. In a block every pair of a group is
compared at once, and ``_settle`` finds the outcome of the greedy pass without walking through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from singleshot.core.nms_kinds import NMS_KINDS, Compare, NmsConfig, Survivors

BoxesOf = Callable[[Tensor], Tensor]

BLOCK = 256
"""Candidates of an image that are compared with each other at once."""


class Kept(NamedTuple):
    """Survivors.

    Attributes:
        rows: where in the candidates they were, ``[K]`` int64.
        boxes_xyxy: their boxes, ``[K, 4]``.
    """

    rows: Tensor
    boxes_xyxy: Tensor

    def pick(self, which: Tensor) -> Kept:
        """Some of them, by index or mask."""
        return Kept(self.rows[which], self.boxes_xyxy[which])


def nms(
    boxes_xyxy: Tensor,
    scores: Tensor,
    class_ids: Tensor | None = None,
    iou_threshold: float = 0.45,
    compare: Compare = ">",
) -> Tensor:
    """Greedy NMS of one list of boxes: class-wise with ``class_ids``, class-agnostic without.

    Args:
        boxes_xyxy: corners, ``[N, 4]``.
        scores: ``[N]``.
        class_ids: any integers, ``[N]``.
        iou_threshold: overlap that suppresses.
        compare: whether a box at exactly the threshold is kept (``>``) or suppressed (``>=``).

    Returns:
        Indices of the survivors, best first, equal scores by the lower index, ``[K]`` int64.
    """
    images = torch.zeros_like(scores, dtype=torch.int64)
    groups = images if class_ids is None else torch.unique(class_ids, return_inverse=True)[1]
    return greedy_nms(scores, images, groups, lambda rows: boxes_xyxy[rows], NmsConfig(iou_threshold, compare)).rows


def greedy_nms(scores: Tensor, images: Tensor, groups: Tensor, boxes_of: BoxesOf, config: NmsConfig) -> Kept:
    """Exact greedy NMS of all groups of all images together.

    A candidate survives if no better survivor of its group overlaps it too much. An image with ``max_per_image``
    survivors is done: whatever is left of it scores less.

    Args:
        scores: ``[N]``; equal scores are taken in the given order.
        images: image of each candidate, ascending from 0, ``[N]`` int64.
        groups: group of each candidate, small integers, each within one image, ``[N]`` int64.
        boxes_of: gives the corners ``[n, 4]`` of the rows ``[n]`` that are really needed.
        config: thresholds and limits.

    Returns:
        Survivors by image and falling score; equal scores keep their order.
    """
    table = ScoreTable(scores, images)
    entered = torch.zeros(int(groups.max()) + 1 if len(groups) else 0, dtype=torch.int64, device=groups.device)
    kept = Kept(groups.new_zeros(0), scores.new_zeros(0, 4))
    while len(rows := table.take(BLOCK)):
        rows = rows[torch.argsort(groups[rows], stable=True)]
        if config.top_k is not None:
            own = groups[rows]
            rows = rows[entered[own] + rank_in_groups(own) < config.top_k]
            entered += own.bincount(minlength=len(entered))
        fresh = _survivors(Kept(rows, boxes_of(rows)), kept, groups, config)
        kept = _merge(kept, fresh, groups, config.max_per_group)
        if config.max_per_image is not None:
            table.drop(images[kept.rows].bincount(minlength=len(table.scores)) >= config.max_per_image)
    kept = kept.pick(torch.argsort(kept.rows))
    kept = kept.pick(torch.argsort(scores[kept.rows], descending=True, stable=True))
    kept = kept.pick(torch.argsort(images[kept.rows], stable=True))
    if config.max_per_image is not None:
        kept = kept.pick(rank_in_groups(images[kept.rows]) < config.max_per_image)
    return kept


class ScoreTable:
    """Scores of all images side by side, ``[B, n]``, from which blocks of the best are taken.

    Attributes:
        scores: -inf where padded or taken.
        starts: row of each image's first candidate, ``[B]``.
        columns: place of every candidate in its image, ``[N]``.
    """

    def __init__(self, scores: Tensor, images: Tensor) -> None:
        counts = images.bincount()
        self.starts = counts.cumsum(0) - counts
        self.columns = rank_in_groups(images)
        self.scores = scores.new_full((len(counts), int(counts.max()) if len(counts) else 0), -torch.inf)
        self.scores[images, self.columns] = scores

    def take(self, size: int) -> Tensor:
        """Rows of the next best candidates of each image, best first; none when the table is used up.

        There are ``size`` of an image, and all whose scores equal the last one's: what is left scores less.
        """
        if self.scores.numel() == 0:
            return self.columns
        last = self.scores.topk(min(size, self.scores.shape[1]), dim=1).values[:, -1:]
        image, column = ((self.scores >= last) & (self.scores > -torch.inf)).nonzero(as_tuple=True)
        order = torch.argsort(self.scores[image, column], descending=True, stable=True)
        self.scores[image, column] = -torch.inf
        return (self.starts[image] + column)[order]

    def drop(self, images: Tensor) -> None:
        """Leave out the rest of some images, ``[B]`` bool."""
        self.scores.masked_fill_(images[:, None], -torch.inf)


@NMS_KINDS.register("greedy")
def greedy(scores: Tensor, images: Tensor, groups: Tensor, boxes_of: BoxesOf, config: NmsConfig) -> Survivors[Tensor]:
    """`greedy_nms` as an `NmsKind`."""
    kept = greedy_nms(scores, images, groups, boxes_of, config)
    return Survivors(kept.rows, kept.boxes_xyxy, scores[kept.rows])


@NMS_KINDS.register("none")
def keep_all(scores: Tensor, images: Tensor, groups: Tensor, boxes_of: BoxesOf, config: NmsConfig) -> Survivors[Tensor]:
    """The best of each group and image, however they overlap."""
    return greedy(scores, images, groups, boxes_of, config._replace(iou=math.inf))


def best_of_groups(scores: Tensor, groups: Tensor, limit: int | None) -> Tensor:
    """Rows of the ``limit`` best of each group, ascending; of equal scores the earlier."""
    if limit is None:
        return torch.arange(len(scores), device=scores.device)
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(groups[order], stable=True)]
    return order[rank_in_groups(groups[order]) < limit].sort().values


def rank_in_groups(groups: Tensor) -> Tensor:
    """Place of each row among those of its group; ``groups`` is ascending, ``[N]`` int64."""
    return torch.arange(len(groups), device=groups.device) - torch.searchsorted(groups, groups)


def _survivors(block: Kept, kept: Kept, groups: Tensor, config: NmsConfig) -> Kept:
    """Candidates of a block, sorted by group, that neither ``kept`` nor better ones of the block suppress."""
    own, settled = groups[block.rows], groups[kept.rows]
    first, behind = torch.searchsorted(settled, own), torch.searchsorted(settled, own, right=True)
    struck, _ = _overlapping(block, kept, *ragged_ranges(first, behind - first), config)
    alive = torch.ones_like(own, dtype=torch.bool).index_fill_(0, struck, False)
    block = block.pick(alive)
    rank = rank_in_groups(own[alive])
    first = torch.arange(len(rank), device=rank.device) - rank
    weaker, stronger = _overlapping(block, block, *ragged_ranges(first, rank), config)
    return block.pick(_settle(weaker, stronger, len(rank)))


def _overlapping(of_a: Kept, of_b: Kept, a: Tensor, b: Tensor, config: NmsConfig) -> tuple[Tensor, Tensor]:
    """Those of the pairs (a-th box of the one, b-th of the other) that overlap too much.

    Coordinates are gathered as columns: several times as fast as gathering rows of four.
    """
    boxes_a = of_a.boxes_xyxy.t().contiguous().index_select(1, a)
    boxes_b = of_b.boxes_xyxy.t().contiguous().index_select(1, b)
    width, height = torch.minimum(boxes_a[2:], boxes_b[2:]).sub_(torch.maximum(boxes_a[:2], boxes_b[:2])).clamp_(min=0)
    intersection = width * height
    union = (_area(boxes_a) + _area(boxes_b)).sub_(intersection)
    if config.union_eps:
        union += config.union_eps
    iou = intersection.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))
    overlap = iou > config.iou if config.compare == ">" else iou >= config.iou
    return a[overlap], b[overlap]


def _area(columns: Tensor) -> Tensor:
    sides = (columns[2:] - columns[:2]).clamp_(min=0)
    return sides[0] * sides[1]


def _settle(weaker: Tensor, stronger: Tensor, count: int) -> Tensor:
    """Survivors, given which row would suppress which, all from earlier to later rows, ``[count]`` bool.

    "Kept unless a kept one suppresses it" is applied to all rows at once until nothing changes. Each time the next link
    of every chain becomes final, and what the greedy pass gives is the only state that does not change.
    """
    keep = torch.ones(count, dtype=torch.bool, device=weaker.device)
    while True:
        following = torch.ones_like(keep).index_fill_(0, weaker[keep[stronger]], False)
        if torch.equal(following, keep):
            return keep
        keep = following


def _merge(kept: Kept, fresh: Kept, groups: Tensor, max_per_group: int | None) -> Kept:
    """Both, sorted by group, those of ``kept`` first within each."""
    both = Kept(torch.cat([kept.rows, fresh.rows]), torch.cat([kept.boxes_xyxy, fresh.boxes_xyxy]))
    both = both.pick(torch.argsort(groups[both.rows], stable=True))
    return both if max_per_group is None else both.pick(rank_in_groups(groups[both.rows]) < max_per_group)


def ragged_ranges(starts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """All of ``starts[i] ... starts[i] + counts[i] - 1`` in a row: the ``i`` of each, and the numbers."""
    owners = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    shift = starts - (counts.cumsum(0) - counts)
    return owners, torch.arange(len(owners), device=counts.device) + shift[owners]
