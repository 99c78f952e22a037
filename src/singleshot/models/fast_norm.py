"""BatchNorm of a training step together with the activation behind it: a kernel of our own on CPUs.

On small networks such as MobileNets a training step on a CPU mostly moves memory, and normalisation, activation and
their gradients move the most. Computed together they read and write half of it.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from singleshot.kernels.batch_norm import RowSizes, c_sizes, kernel
from singleshot.models.shared_norm import SharedBatchNorm2d, Sharing, combined_statistics


class Bend(NamedTuple):
    """What an activation does to a value ``v``.

    Attributes:
        low, high: bounds of a clamp.
        hard_swish: whether the clamp is of ``v + 3``, and a sixth of ``v`` times that the result.
    """

    low: float
    high: float
    hard_swish: bool = False


BENDS: dict[type[nn.Module] | None, Bend] = {
    None: Bend(-math.inf, math.inf),
    nn.ReLU: Bend(0.0, math.inf),
    nn.ReLU6: Bend(0.0, 6.0),
    nn.Hardswish: Bend(0.0, 6.0, hard_swish=True),
}
"""Activations that the kernel knows."""


class ConvBlock(nn.Sequential):
    """Convolution, BatchNorm, activation, as children ``conv``, ``bn``, ``act``; absent parts have no child.

    Children that are changed, taken away or added compute as in any `torch.nn.Sequential`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C', H', W']``."""
        conv, norm, activation = (*self, None, None, None)[:3]
        if len(self) > 3 or not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            for part in self:
                x = part(x)
            return x
        x = conv(x)
        if _fits(norm, activation, x) and not _is_watched(conv, norm, activation):
            bend = BENDS[type(activation) if activation is not None else None]
            return _by_batch(norm, bend, x) if norm.training else _by_running(norm, bend, x)
        x = norm(x)
        return x if activation is None else activation(x)


def _fits(norm: nn.BatchNorm2d, activation: nn.Module | None, x: Tensor) -> bool:
    """Whether the kernel computes just what the two modules would, in a step of training."""
    return (
        type(x) is Tensor
        and torch.is_grad_enabled()
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.is_contiguous(memory_format=torch.channels_last)
        and _takes_batch(x)
        and (type(norm) is nn.BatchNorm2d or (type(norm) is SharedBatchNorm2d and not norm.fixed_gamma))
        and (activation is None or type(activation) in BENDS)
        and norm.momentum is not None
        and all(_is_a_row(numbers, x.shape[1]) for numbers in (*_learnt(norm), norm.running_mean, norm.running_var))
        and (norm.training or not any(numbers.requires_grad for numbers in (x, *_learnt(norm))))
        and not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and not torch._C._are_functorch_transforms_active()
        and kernel() is not None
    )


def _learnt(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    return norm.weight, norm.bias


def _is_a_row(numbers: Tensor | None, channels: int) -> bool:
    """Whether it is what the kernel may read: a float32 number for each channel. (BatchNorm may have none at all.)"""
    return numbers is not None and numbers.dtype == torch.float32 and numbers.shape == (channels,)


def _takes_batch(x: Tensor) -> bool:
    """BatchNorm itself says what is wrong with one value a channel, or none."""
    return x.numel() > x.shape[1]


def _is_watched(*modules: nn.Module | None) -> bool:
    """Whether somebody wants to see what passes between the modules."""
    return bool(_global_forward_hooks or _global_forward_pre_hooks) or any(
        m is not None and (m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks)
        for m in modules
    )


def _by_batch(norm: nn.BatchNorm2d, bend: Bend, x: Tensor) -> Tensor:
    """What the two modules would give, running statistics included."""
    sharing = norm.sharing if isinstance(norm, SharedBatchNorm2d) else None
    result, mean, variance, rows = _NormAct.apply(x, norm.weight, norm.bias, norm.eps, bend, sharing)  # type: ignore[no-untyped-call]
    if isinstance(norm, SharedBatchNorm2d):
        norm.follow(mean, variance, rows)
        return result  # type: ignore[no-any-return]
    count = x.numel() // x.shape[1]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.momentum is not None
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return result  # type: ignore[no-any-return]


def _by_running(norm: nn.BatchNorm2d, bend: Bend, x: Tensor) -> Tensor:
    """The same for a layer that stays as it is; writes over ``x``, the convolution's own output."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        _Call(RowSizes(x.numel() // x.shape[1], x.shape[1], *bend))("normalise", x, scale, shift, x)
    return x


class _Call(NamedTuple):
    """A call of the kernel: sizes and threads."""

    sizes: RowSizes

    def __call__(self, name: str, *tensors: Tensor) -> None:
        library = kernel()
        if library is None:
            raise ValueError("the kernel is gone")
        pointer = ctypes.byref(c_sizes(self.sizes))
        getattr(library, name)(pointer, *(tensor.data_ptr() for tensor in tensors), self.parts)

    @property
    def parts(self) -> int:
        """Threads."""
        return self.sizes.parts(torch.get_num_threads())

    def workspace(self) -> Tensor:
        """Two sums of each thread."""
        return torch.empty(self.parts, 2, self.sizes.channels, dtype=torch.float64)


class _NormAct(torch.autograd.Function):
    """Normalise by the batch's statistics (or those of all processes' batches), scale, shift, bend."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        bend: Bend,
        sharing: Sharing | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        channels = x.shape[1]
        call = _Call(RowSizes(x.numel() // channels, channels, *bend))
        mean, variance, rows = torch.empty(channels), torch.empty(channels), None
        call("batch_statistics", x, mean, variance, call.workspace())
        if sharing is not None:
            mean, variance, rows = combined_statistics(sharing, mean, variance, call.sizes.rows)
        scale = weight.detach() * (variance + eps).rsqrt()
        shift = bias.detach() - mean * scale
        result = torch.empty_like(x)
        call("normalise", x, scale, shift, result)
        ctx.save_for_backward(x, mean, scale, shift, (variance + eps).rsqrt())
        ctx.call, ctx.sharing = call, sharing
        ctx.rows = call.sizes.rows if rows is None else rows
        ctx.mark_non_differentiable(mean, variance, *(() if rows is None else (rows,)))
        return result, mean, variance, rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, shift, inverse = ctx.saved_tensors
        call, sharing, rows = ctx.call, ctx.sharing, ctx.rows
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        sums = torch.empty(2, len(mean), dtype=torch.float64)
        call("gradient_sums", x, gradient, mean, scale, shift, sums, call.workspace())
        of_bias, of_weight = sums[0], sums[1] * inverse
        result = None
        if ctx.needs_input_grad[0]:
            # scale * (g - mean(g) - normalised x * mean(g * normalised x))
            own = torch.stack([of_bias, of_weight])
            all_bias, all_weight = own if sharing is None else sharing.sum(own)
            by_input, constant = (-scale * inverse * all_weight / rows).float(), (-scale * all_bias / rows).float()
            result = torch.empty_like(x)
            call("input_gradient", x, gradient, mean, scale, shift, by_input, constant, result)
        return result, of_weight.float(), of_bias.float(), None, None, None
