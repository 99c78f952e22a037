"""BatchNorm over the images of several processes, as if one process had them all (synchronised BatchNorm).

torch's own `SyncBatchNorm` is for GPUs only; this one runs on any device, and with the kernel of `fast_norm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from singleshot.models.mxnet_norm import MXNetBatchNorm2d


class Sharing(Protocol):
    """The processes that share their statistics."""

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over all of them."""

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all of them, which have one shape."""


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose statistics in training are of the batches of all processes; elsewhere like the layer it replaces.

    Args:
        norm: the layer to replace, whose numbers it takes over.
        sharing: the processes.
    """

    def __init__(self, norm: nn.BatchNorm2d, sharing: Sharing) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        for name, parameter in norm.named_parameters():
            self.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.sharing = sharing
        self.fixed_gamma = isinstance(norm, MXNetBatchNorm2d) and norm.fixed_gamma
        self.biased_variance = isinstance(norm, MXNetBatchNorm2d) and norm.biased_variance
        self.counts = not isinstance(norm, MXNetBatchNorm2d)  # MXNet's counts no batches
        self.train(norm.training)

    @property
    def gamma(self) -> Tensor:
        """What it multiplies by, ``[C]``."""
        return torch.ones_like(self.weight) if self.fixed_gamma else self.weight

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[B, C, H, W]`` per channel."""
        if not self.training:
            return F.batch_norm(input, self.running_mean, self.running_var, self.gamma, self.bias, False, 0.0, self.eps)
        result, mean, variance, rows = _Normalise.apply(input, self.gamma, self.bias, self.eps, self.sharing)  # type: ignore[no-untyped-call]
        self.follow(mean, variance, rows)
        return result  # type: ignore[no-any-return]

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor, rows: Tensor) -> None:
        """Move the running statistics towards a batch's.

        Args:
            mean, variance: of the batch, biased, ``[C]``.
            rows: numbers that they are of, 0-dim.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        unbiased = variance if self.biased_variance else variance * (rows / (rows - 1).clamp(min=1)).to(variance.dtype)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
        if self.counts and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def share_norms(network: nn.Module, sharing: Sharing, still: Sequence[nn.Module] = ()) -> None:
    """Replace BatchNorms of a network by ones over all processes; names and numbers stay.

    Args:
        network: changed in place.
        sharing: the processes.
        still: layers that stay as they are, since they learn no statistics.
    """
    kept = set(still)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats and module not in kept:
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, SharedBatchNorm2d(module, sharing))


def combined_statistics(sharing: Sharing, mean: Tensor, variance: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of the batches of all processes, and how many numbers each is of (0-dim float64).

    Args:
        sharing: the processes.
        mean, variance: of this process's batch, ``[C]``.
        rows: numbers of each channel here; processes may have different ones.
    """
    own = torch.cat([mean.double(), variance.double(), mean.new_full((1,), rows, dtype=torch.float64)])
    parts = torch.stack(sharing.gather(own))
    counts, channels = parts[:, -1:], len(mean)
    means, variances = parts[:, :channels], parts[:, channels:-1]
    total = counts.sum()
    common = (means * counts).sum(dim=0) / total
    spread = ((variances + (means - common).square()) * counts).sum(dim=0) / total
    return common.to(mean.dtype), spread.to(variance.dtype), total


class _Normalise(torch.autograd.Function):
    """Normalise by the statistics of all processes, scale, shift."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, sharing: Sharing
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kind = torch.promote_types(x.dtype, torch.float32)  # of the arithmetic
        values = x.to(kind)
        variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        mean, variance, rows = combined_statistics(sharing, mean, variance, x.numel() // x.shape[1])
        inverse = (variance + eps).rsqrt()
        scale = weight.to(kind) * inverse
        result = values * _column(scale) + _column(bias.to(kind) - mean * scale)
        ctx.save_for_backward(x, weight, mean, inverse, rows)
        ctx.sharing = sharing
        ctx.mark_non_differentiable(mean, variance, rows)
        return result.to(x.dtype), mean, variance, rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, rows = ctx.saved_tensors
        kind = mean.dtype
        slope = gradient.to(kind)
        normalised = (x.to(kind) - _column(mean)) * _column(inverse)
        own = torch.stack([slope.sum(dim=(0, 2, 3)), (slope * normalised).sum(dim=(0, 2, 3))])
        result = None
        if ctx.needs_input_grad[0]:  # only then `fast_norm` asks the others, with whom a layer may be of either form
            of_bias, of_weight = (ctx.sharing.sum(own.double()) / rows).to(kind)
            centred = slope - _column(of_bias) - normalised * _column(of_weight)
            result = (centred * _column(weight.to(kind) * inverse)).to(x.dtype)
        return result, own[1].to(weight.dtype), own[0].to(weight.dtype), None, None


def _column(values: Tensor) -> Tensor:
    """``[C]`` as it fits to ``[B, C, H, W]``."""
    return values[:, None, None]
