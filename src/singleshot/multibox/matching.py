"""Which anchor learns which object (SSD section 2.2, "Matching strategy").

Equals `plain.match`, of all images at once: the objects of a batch are rows (see `rows`), and nothing here loops over
images or anchors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from singleshot.core.boxes import cxcywh_to_xyxy, pairwise_iou
from singleshot.core.settings import MatchConfig
from singleshot.multibox.rows import ObjectRows, counting_is_free, object_rows

MATCH = MatchConfig()

# Objects times anchors worked on at once: 256 MB of IoU, and a few times as much in between.
MOST_PAIRS = 2**26
PAIRS_IN_CACHE = 2**19
# Objects in a batch rarely want more anchors than this one after the other.
FIRST_CHOICES = 33
# On a GPU a fixed number of rounds, without a look at what is left, is quicker for up to so many objects in an image.
MOST_OBJECTS_UNCOUNTED = 64
# IoUs that shall not depend on rounding keep so many bits after the leading one. Corners rounded to float32 move the
# IoU of a box of 8 pixels in an image of 512 by about 2**-16.
IOU_BITS = 14
_AS_INTEGER = {torch.float32: torch.int32, torch.float64: torch.int64}


class Matches(NamedTuple):
    """Result of matching a batch.

    Attributes:
        object_index: object that each anchor learns, 0..M-1 of its image, -1 for none, ``[B, A]`` int64.
        best_iou: each anchor's largest IoU with any object of its image, 0 without objects, ``[B, A]``; to 15 bits
            where ``MatchConfig.ties`` is ``near``.
    """

    object_index: Tensor
    best_iou: Tensor

    @property
    def positive_mask(self) -> Tensor:
        """Anchors that learn an object, ``[B, A]`` bool."""
        return self.object_index >= 0

    def eligible_mask(self, negative_iou: float) -> Tensor:
        """Anchors that may be mined as negatives: unmatched, with a best IoU below a limit, ``[B, A]`` bool."""
        return (self.object_index < 0) & (self.best_iou < negative_iou)


def match_anchors(anchors_cxcywh: Tensor, boxes_xyxy: Tensor, valid: Tensor, config: MatchConfig = MATCH) -> Matches:
    """Match the anchors of a batch with its objects.

    Args:
        anchors_cxcywh: ``[A, 4]``, or ``[B, A, 4]`` where each image has its own (RefineDet).
        boxes_xyxy: objects in the unit of the anchors, padded, ``[B, M, 4]``.
        valid: which rows are objects, ``[B, M]`` bool.
        config: thresholds and dialect.
    """
    return match_boxes(cxcywh_to_xyxy(anchors_cxcywh), boxes_xyxy, valid, config)


@torch.no_grad()
def match_boxes(anchors_xyxy: Tensor, boxes_xyxy: Tensor, valid: Tensor, config: MatchConfig = MATCH) -> Matches:
    """The same for anchors given as corners."""
    batch, anchors = len(valid), anchors_xyxy.shape[-2]
    at_once = max(1, MOST_PAIRS // max(1, valid.shape[1] * anchors))
    if batch > at_once:
        parts = [slice(first, first + at_once) for first in range(0, batch, at_once)]
        own = anchors_xyxy.dim() == 3
        found = [
            match_boxes(anchors_xyxy[part] if own else anchors_xyxy, boxes_xyxy[part], valid[part], config)
            for part in parts
        ]
        return Matches(*(torch.cat(tensors) for tensors in zip(*found, strict=True)))
    rows = object_rows(valid)
    best_iou = boxes_xyxy.new_zeros(batch, anchors)
    object_index = torch.full((batch, anchors), -1, dtype=torch.int64, device=valid.device)
    if len(rows.slots) == 0 or anchors == 0:
        return Matches(object_index, best_iou)
    objects = boxes_xyxy.flatten(0, 1)[rows.slots]
    iou = _pairwise_iou(objects, anchors_xyxy, rows.images, config)
    if not counting_is_free(valid):
        iou.masked_fill_(~valid.view(-1, 1), 0.0)
    best_iou.scatter_reduce_(0, rows.images[:, None].expand_as(iou), iou, "amax")
    if config.positive_iou is not None:
        # Whatever the threshold, no anchor takes an object that it does not touch.
        least = max(_threshold(config.positive_iou, iou.dtype, config), torch.finfo(iou.dtype).tiny)
        reached = best_iou >= least if config.compare == ">=" else best_iou > least
        object_index = torch.where(reached, _nearest_objects(iou, best_iou, rows, valid), -1)
    return Matches(_force(object_index, iou, rows, valid, config), best_iou)


def _pairwise_iou(objects_xyxy: Tensor, anchors_xyxy: Tensor, images: Tensor, config: MatchConfig) -> Tensor:
    """IoU of every object with the anchors of its image, ``[R, A]``; ``config`` says whether it is rounded."""
    finish = _round_iou if config.ties == "near" else Tensor.contiguous
    pieces = _pieces(len(objects_xyxy) * anchors_xyxy.shape[-2], anchors_xyxy.device)
    iou = [
        finish(
            pairwise_iou(part[:, None], anchors_xyxy[of]).squeeze(1)
            if anchors_xyxy.dim() == 3
            else pairwise_iou(part, anchors_xyxy)
        )
        for part, of in zip(objects_xyxy.tensor_split(pieces), images.tensor_split(pieces), strict=True)
    ]
    return torch.cat(iou) if pieces > 1 else iou[0]


def _round_iou(iou: Tensor) -> Tensor:
    """Round to 15 significant bits, in place and the same on every device: as integers, floats above 0 keep order."""
    step = _step(iou.dtype)
    iou.view(_AS_INTEGER[iou.dtype]).add_(step // 2).bitwise_and_(-step)
    return iou


def _step(dtype: torch.dtype) -> int:
    """Distance of two neighbouring rounded IoUs, read as integers."""
    mantissa_bits = -round(math.log2(torch.finfo(dtype).eps))
    return 1 << (mantissa_bits - IOU_BITS)


def _threshold(positive_iou: float, dtype: torch.dtype, config: MatchConfig) -> float:
    """The threshold as IoUs are rounded: .45 is no multiple of a power of two."""
    return _round_iou(torch.tensor(positive_iou, dtype=dtype)).item() if config.ties == "near" else positive_iou


def _level_first_choices(iou: Tensor) -> Tensor:
    """Let anchors that share an object's best IoU share it exactly, in place, ``[R, A]``.

    Rounding parts two nearly equal IoUs where the border of a step lies between them: neighbouring steps are equal.
    """
    for part in iou.tensor_split(_pieces(iou.numel(), iou.device)):
        steps = part.view(_AS_INTEGER[iou.dtype])
        best = steps.amax(dim=1, keepdim=True)
        torch.where(steps >= best - _step(iou.dtype), best, steps, out=steps)
    return iou


def _pieces(pairs: int, device: torch.device) -> int:
    """In how many pieces to work on all pairs of objects and anchors: on the host, so that each stays in its cache."""
    return -(-pairs // PAIRS_IN_CACHE) if device.type == "cpu" else 1


def _nearest_objects(iou: Tensor, best_iou: Tensor, rows: ObjectRows, valid: Tensor) -> Tensor:
    """Lowest object of each anchor's image that has the anchor's best IoU, ``[B, A]`` int64; M or more if none."""
    objects = valid.shape[1]
    within = torch.where(valid.flatten()[rows.slots], rows.slots % objects, objects).to(iou.dtype)
    nearest = torch.full_like(best_iou, objects)
    pieces = _pieces(iou.numel(), iou.device)
    for part, images, numbers in zip(
        iou.tensor_split(pieces), rows.images.tensor_split(pieces), within.tensor_split(pieces), strict=True
    ):
        # The object's number where it has the best IoU, else far above M: as arithmetic several times as fast on a CPU
        # as a comparison with a selection. Unequal IoUs near any sensible threshold differ by far more than 1e-20.
        holders = best_iou.index_select(0, images).sub_(part).mul_(1e30).add_(numbers[:, None])
        nearest.scatter_reduce_(0, images[:, None].expand_as(part), holders, "amin")
    return nearest.long()


def _force(object_index: Tensor, iou: Tensor, rows: ObjectRows, valid: Tensor, config: MatchConfig) -> Tensor:
    """Let every object have an anchor, as the dialect says; uses up ``iou``."""
    if config.forced == "none":
        return object_index
    if config.ties == "near":
        iou = _level_first_choices(iou)
    if config.forced == "bipartite":
        anchor = _greedy_rows(iou, rows.images, valid.shape[1], config.min_forced_iou)
    else:
        anchor = torch.where(valid.flatten()[rows.slots], iou.argmax(dim=1), -1)
    batch, anchors = object_index.shape
    within = rows.slots % valid.shape[1]
    spare = rows.images * anchors + anchor
    forced = object_index.new_full((batch * anchors + 1,), -1)
    # Objects without an anchor write behind the end. Of several objects with one anchor the last gets it.
    forced.scatter_reduce_(0, torch.where(anchor < 0, batch * anchors, spare), within, "amax")
    forced = forced[:-1].view(batch, anchors)
    return torch.where(forced >= 0, forced, object_index)


def greedy_bipartite(scores: Tensor, min_score: float) -> Tensor:
    """Repeatedly join the free object and the free anchor with the largest score.

    Ties go to the lowest anchor, then to the lowest object.

    Args:
        scores: ``[B, M, A]``.
        min_score: pairs need a score above this.

    Returns:
        Anchor of each object, -1 for none, ``[B, M]`` int64.
    """
    batch, objects, anchors = scores.shape
    if scores.numel() == 0:
        return torch.full((batch, objects), -1, dtype=torch.int64, device=scores.device)
    rows = object_rows(torch.ones(batch, objects, dtype=torch.bool, device=scores.device))
    finite = scores.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    return _greedy_rows(finite.reshape(-1, anchors), rows.images, objects, min_score).view(batch, objects)


def _greedy_rows(scores: Tensor, images: Tensor, objects: int, min_score: float) -> Tensor:
    """Greedy bipartite matching of every image at once, ``[R, A]`` -> anchor of each row or -1; may use up ``scores``.

    Args:
        scores: of each object, a row, with each anchor.
        images: of each row, rising, ``[R]``; unless counting is free every image has ``objects`` rows.
        objects: most rows of an image.
        min_score: pairs need a score above this.
    """
    if counting_is_free(scores) or objects > MOST_OBJECTS_UNCOUNTED:
        return _propose(scores, images, min_score)
    return _join_mutual_best(scores, images, objects, min_score)


def _propose(scores: Tensor, images: Tensor, min_score: float) -> Tensor:
    """Greedy matching as deferred acceptance (Gale and Shapley 1962), ``[R, A]`` -> ``[R]``.

    Every row proposes to its best anchor; an anchor keeps its best proposer, and the others go on to their next one.
    Where both sides rank by one strict order of the pairs, here by score, anchor and row, only one matching is stable:
    the greedy one. A round costs as much as there are rows, so the time grows like the scores that are looked through.
    """
    count, anchors = scores.shape
    numbers = torch.arange(count, device=scores.device)
    nowhere = int(images[-1] + 1) * anchors if count else 0
    ranked = _Ranked.of(scores, min(FIRST_CHOICES, anchors), min_score)
    place = torch.zeros_like(numbers)
    while True:
        short = ((place >= ranked.lengths) & ~ranked.complete).nonzero().squeeze(1)
        if len(short):
            ranked = ranked.longer(scores, short, min_score)
            continue
        goes_on = place < ranked.lengths
        at = place.clamp(max=ranked.anchors.shape[1] - 1)[:, None]
        choice = ranked.anchors.gather(1, at).squeeze(1)
        slot = torch.where(goes_on, images * anchors + choice, nowhere)
        score = ranked.scores.gather(1, at).squeeze(1)
        best = score.new_full((nowhere + 1,), -torch.inf).scatter_reduce_(0, slot, score, "amax")
        claims = torch.where(score == best[slot], numbers, count)
        winner = torch.full_like(best, count, dtype=torch.int64).scatter_reduce_(0, slot, claims, "amin")
        lost = goes_on & (winner[slot] != numbers)
        if not lost.any():
            return torch.where(goes_on, choice, -1)
        place += lost


class _Ranked(NamedTuple):
    """The first choices of each row: scores and anchors, best first, ties by anchor, ``[R, K]``.

    The first ``lengths`` of them are certain, ``[R]``; ``complete`` tells where no others are above the least score.
    """

    scores: Tensor
    anchors: Tensor
    lengths: Tensor
    complete: Tensor

    @classmethod
    def of(cls, scores: Tensor, choices: int, min_score: float) -> _Ranked:
        """Rank the ``choices`` best of each row."""
        values, anchors = scores.topk(choices, dim=1)
        # Which of several equal scores are among the best is chance: the last score counts only if the row ends there.
        last = values[:, -1:] if choices < scores.shape[1] else torch.full_like(values[:, -1:], -torch.inf)
        anchors, order = anchors.sort(dim=1)
        values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
        certain = (values > last) & (values > min_score)
        complete = last.squeeze(1) <= min_score
        return cls(values, anchors.gather(1, order), certain.sum(dim=1), complete)

    def longer(self, scores: Tensor, rows: Tensor, min_score: float) -> _Ranked:
        """Twice as many choices for some rows."""
        width = self.anchors.shape[1]
        more = _Ranked.of(scores[rows], min(2 * width, scores.shape[1]), min_score)
        padding = (0, more.anchors.shape[1] - width)
        wide = self._replace(scores=pad(self.scores, padding), anchors=pad(self.anchors, padding))
        return _Ranked(*(old.index_copy(0, rows, new) for old, new in zip(wide, more, strict=True)))


def _join_mutual_best(scores: Tensor, images: Tensor, objects: int, min_score: float) -> Tensor:
    """The same for few objects on a GPU, where looking whether any are left would wait for the device.

    A pair that is the best of both its object and its anchor cannot be outrun by any other pair, so each round joins
    all such pairs of all images, for as many rounds as an image can need.
    """
    result = torch.full_like(images, -1)
    numbers = torch.arange(len(images), device=images.device)
    own = numbers % objects
    peers = (numbers - own)[:, None] + torch.arange(objects, device=images.device)
    best, anchor = scores.max(dim=1)
    open_rows = best > min_score
    for _ in range(min(objects, scores.shape[1])):
        rivals = torch.where(open_rows[peers], scores[peers, anchor[:, None]], -torch.inf)
        joined = open_rows & (rivals.argmax(dim=1) == own)
        result = torch.where(joined, anchor, result)
        gone = torch.where(joined, -torch.inf, 0.0).to(scores.dtype)
        scores.index_put_((peers, anchor[:, None]), gone[:, None].expand_as(peers), accumulate=True)
        best, anchor = scores.max(dim=1)
        open_rows = open_rows & ~joined & (best > min_score)
    return result
