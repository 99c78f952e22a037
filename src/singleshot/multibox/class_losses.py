"""The classification losses that ``LossConfig.classification`` names: each one registered `ClassLoss`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from singleshot.core.settings import CLASS_LOSSES, ClassLoss, LossConfig
from singleshot.multibox.rows import counting_is_free

BLOCK_ROWS = 16384
"""Anchors whose logits are looked at together: about a megabyte."""


def softmax_losses(logits: Tensor, columns: Tensor, config: LossConfig) -> Tensor:
    """Cross-entropy over all columns (SSD eq. 3), ``[S, K]`` -> ``[S]``; equals `plain.cross_entropy`."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    right = log_probabilities.gather(1, columns[:, None]).squeeze(1)
    smoothing = config.label_smoothing
    if smoothing == 0:
        return -right
    others = log_probabilities.sum(dim=1) - right
    return -(1 - smoothing) * right - smoothing / max(1, logits.shape[1] - 1) * others


def softmax_background(logits: Tensor) -> Tensor:
    """Cross-entropy with background, ``[..., K]`` -> ``[...]``."""
    return _log_sum_exp(logits).sub_(logits[..., 0])


def _log_sum_exp(logits: Tensor) -> Tensor:
    """``logsumexp`` over the last dimension; on a CPU several times as fast unless a row needs its maximum taken out.

    There the rows are exponentiated in blocks that stay in the cache.
    """
    if counting_is_free(logits):
        blocks = torch.split(logits.flatten(0, -2), BLOCK_ROWS)
        total = torch.cat([block.exp().sum(dim=-1) for block in blocks])
        if bool(((total > 1e-30) & (total < 1e30)).all()):
            return total.log_().view(logits.shape[:-1])
    return torch.logsumexp(logits, dim=-1)


def sigmoid_losses(logits: Tensor, columns: Tensor, config: LossConfig) -> Tensor:
    """Binary cross-entropy of each foreground column, ``[S, K]`` -> ``[S]``; column 0 is left alone."""
    signed, _ = _signed(logits, columns)
    return F.softplus(-signed).sum(dim=-1)


def sigmoid_background(logits: Tensor) -> Tensor:
    """Binary cross-entropy with background, ``[..., K]`` -> ``[...]``."""
    return F.softplus(logits[..., 1:]).sum(dim=-1)


def focal_losses(logits: Tensor, columns: Tensor, config: LossConfig) -> Tensor:
    """Focal loss (arXiv 1708.02002, eq. 5) of each foreground column, ``[S, K]`` -> ``[S]``; column 0 is left alone."""
    signed, truth = _signed(logits, columns)
    balance = truth * config.focal_alpha + (1 - truth) * (1 - config.focal_alpha)
    # (1 - p_t) ** gamma, as an exponential so that neither value nor gradient overflows.
    return (balance * torch.exp(-config.focal_gamma * F.softplus(signed)) * F.softplus(-signed)).sum(dim=-1)


def quality_focal_losses(logits: Tensor, columns: Tensor, config: LossConfig, quality: Tensor) -> Tensor:
    """Quality focal loss (arXiv 2006.04388, eq. 2) of each foreground column, ``[S, K]`` -> ``[S]``.

    The target of the right column is ``quality``, of the others 0; column 0 is left alone.
    """
    foreground = logits[:, 1:]
    truth = (columns[:, None] == torch.arange(1, logits.shape[-1], device=columns.device)).to(logits.dtype)
    target = truth * quality[:, None]
    distance = (torch.sigmoid(foreground) - target).abs()
    cross_entropy = F.binary_cross_entropy_with_logits(foreground, target, reduction="none")
    return (distance.clamp(min=1e-12).pow(config.focal_gamma) * cross_entropy).sum(dim=-1)


def _signed(logits: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Foreground logits, negated where the class is not the target, and the 0/1 targets, ``[S, K - 1]`` each."""
    truth = (columns[:, None] == torch.arange(1, logits.shape[-1], device=columns.device)).to(logits.dtype)
    return logits[:, 1:] * (2 * truth - 1), truth


CLASS_LOSSES.register("softmax")(ClassLoss(softmax_losses, softmax_background, "softmax"))
CLASS_LOSSES.register("sigmoid")(ClassLoss(sigmoid_losses, sigmoid_background))
CLASS_LOSSES.register("focal")(ClassLoss(focal_losses))
CLASS_LOSSES.register("quality_focal")(ClassLoss(None, by_quality=quality_focal_losses))
