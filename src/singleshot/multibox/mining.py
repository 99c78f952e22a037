"""Hard negative mining (SSD section 2.2): of the many anchors without an object only the hardest teach."""

from __future__ import annotations

import torch
from torch import Tensor

from singleshot.multibox.rows import counting_is_free


def wanted_negatives(positives: Tensor, ratio: float, minimum: int) -> Tensor:
    """Number of negatives an image asks for: ``max(floor(ratio * positives), minimum)``, ``[B]`` int64.

    Args:
        positives: matched anchors of each image, ``[B]``.
        ratio: negatives per positive.
        minimum: fewest negatives, so that images without objects teach as well.
    """
    return (positives * ratio).floor().long().clamp(min=minimum)


@torch.no_grad()
def mine_negatives(hardness: Tensor, candidates: Tensor, wanted: Tensor) -> Tensor:
    """Choose each image's hardest candidates. Equal ones go by the lower index.

    Args:
        hardness: how wrong the network is about each anchor, larger is harder, ``[B, A]``.
        candidates: anchors that may be chosen, ``[B, A]`` bool.
        wanted: how many to choose in each image, ``[B]`` int64; where there are fewer candidates all are chosen.

    Returns:
        ``[B, A]`` bool, a subset of ``candidates``.
    """
    if hardness.numel() == 0:
        return candidates
    ranked = hardness.masked_fill(~candidates, -torch.inf)
    wanted = torch.minimum(wanted, candidates.sum(dim=1))
    limit = max(1, int(wanted.max())) if counting_is_free(wanted) else hardness.shape[1]
    ordered = ranked.topk(limit, dim=1).values
    threshold = ordered.gather(1, (wanted[:, None] - 1).clamp(min=0))
    harder = ranked > threshold
    ties = (ranked == threshold) & candidates
    room = wanted[:, None] - harder.sum(dim=1, keepdim=True)
    return (harder | (ties & (ties.cumsum(dim=1) <= room))) & (wanted[:, None] > 0)
