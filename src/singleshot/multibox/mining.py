"""Hard negative mining (SSD section 2.2): of the many unmatched anchors only the hardest teach background.

Equals the mining in `plain.multibox_loss`, of all images at once and without sorting them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from singleshot.multibox.rows import counting_is_free


def count_negatives(num_positives: Tensor, ratio: float, minimum: int) -> Tensor:
    """How many negatives to mine in each image: ``max(floor(ratio * positives), minimum)``, ``[B]`` int64.

    Args:
        num_positives: matched anchors of each image, ``[B]``.
        ratio: negatives per positive.
        minimum: fewest negatives, so that images without objects teach as well.
    """
    return (num_positives * ratio).floor().long().clamp(min=minimum)


@torch.no_grad()
def mine_negatives(hardness: Tensor, eligible: Tensor, num_negatives: Tensor) -> Tensor:
    """Choose each image's hardest negatives. Equal ones go by the lower index.

    Args:
        hardness: how wrong the network is about each anchor, larger is harder, ``[B, A]``.
        eligible: anchors that may be chosen, ``[B, A]`` bool.
        num_negatives: how many to choose in each image, ``[B]`` int64; where fewer are eligible, all of them are.

    Returns:
        ``[B, A]`` bool, a subset of ``eligible``.
    """
    if hardness.numel() == 0:
        return eligible
    ranked = hardness.masked_fill(~eligible, -torch.inf)
    num_negatives = torch.minimum(num_negatives, eligible.sum(dim=1))
    limit = max(1, int(num_negatives.max())) if counting_is_free(num_negatives) else hardness.shape[1]
    ordered = ranked.topk(limit, dim=1).values
    threshold = ordered.gather(1, (num_negatives[:, None] - 1).clamp(min=0))
    harder = ranked > threshold
    ties = (ranked == threshold) & eligible
    room = num_negatives[:, None] - harder.sum(dim=1, keepdim=True)
    return (harder | (ties & (ties.cumsum(dim=1) <= room))) & (num_negatives[:, None] > 0)
