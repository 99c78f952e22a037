"""BatchNorm as MXNet computes it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MXNetBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with MXNet's two habits (``mx.sym.BatchNorm`` of 1.9.1).

    Its ``fix_gamma`` (on by default there) computes with a gamma of 1 whatever is stored and never trains it; and its
    moving variance follows the biased variance of the batch, where PyTorch follows the unbiased one.

    Args:
        channels: of the input.
        eps: added to the variance; MXNet's default is 1e-3.
        fixed_gamma: compute with a gamma of 1. The parameter stays, so that foreign weights fit.
        biased_variance: follow the biased variance.
    """

    def __init__(
        self, channels: int, eps: float = 1e-3, *, fixed_gamma: bool = True, biased_variance: bool = True
    ) -> None:
        super().__init__(channels, eps=eps, momentum=0.1)
        self.fixed_gamma = fixed_gamma
        self.biased_variance = biased_variance
        self.weight.requires_grad_(not fixed_gamma)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[B, C, H, W]`` per channel."""
        gamma = torch.ones_like(self.weight) if self.fixed_gamma else self.weight
        if not self.training:
            return F.batch_norm(input, self.running_mean, self.running_var, gamma, self.bias, False, 0.0, self.eps)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        # Autograd keeps the variance that batch_norm gets, so the corrected one must be another tensor.
        unbiased = self.running_var.clone()
        out = F.batch_norm(input, self.running_mean, unbiased, gamma, self.bias, True, self.momentum, self.eps)
        with torch.no_grad():
            old_part = self.running_var * (1 - self.momentum)
            count = input.numel() / input.shape[1]
            factor = (count - 1) / count if self.biased_variance else 1.0
            self.running_var.copy_((unbiased - old_part) * factor + old_part)
        return out
