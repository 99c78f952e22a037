"""MXNet's normalisation and loss-head operators; loss heads have gradients of their own, whatever comes from above."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Normalization = Literal["null", "batch", "valid"]


def l2_normalization(data: Tensor, eps: float = 1e-10, mode: str = "instance") -> Tensor:
    """``L2Normalization``: ``x / sqrt(sum(x^2) + eps)``.

    Args:
        data: ``[N, C, ...]``.
        eps: added inside the root.
        mode: what is summed: ``instance`` all but the first axis; ``channel`` axis 1, at each position (SSD's);
            ``spatial`` the axes after 1, of each channel.

    Raises:
        ValueError: too few dimensions, or an unknown mode.
    """
    least = {"instance": 2, "channel": 3, "spatial": 3}
    if mode not in least:
        raise ValueError(f"mode is one of {', '.join(least)}, not {mode!r}")
    if data.dim() < least[mode]:
        raise ValueError(f"mode {mode} needs at least {least[mode]} dimensions, data has {data.dim()}")
    axes = {"instance": range(1, data.dim()), "channel": [1], "spatial": range(2, data.dim())}[mode]
    return data / (data.square().sum(dim=tuple(axes), keepdim=True) + eps).sqrt()


def smooth_l1(data: Tensor, scalar: float = 1.0) -> Tensor:
    """``smooth_l1``: ``(scalar x)^2 / 2`` where ``|x| < 1 / scalar^2``, else ``|x| - 1 / (2 scalar^2)``.

    With ``scalar`` 0 everything is 0.
    """
    if scalar == 0:
        return data * 0.0
    return F.smooth_l1_loss(data, torch.zeros_like(data), reduction="none", beta=1.0 / scalar**2)


def softmax_output(
    data: Tensor,
    label: Tensor,
    grad_scale: float = 1.0,
    ignore_label: float = -1.0,
    multi_output: bool = False,
    use_ignore: bool = False,
    preserve_shape: bool = False,
    normalization: Normalization = "null",
    out_grad: bool = False,
    smooth_alpha: float = 0.0,
) -> Tensor:
    """``SoftmaxOutput``: softmax forward, the gradient of its cross-entropy backward.

    Args:
        data: logits: ``[B, K]``; ``[B, K, ...]`` with ``multi_output``; ``[..., K]`` with ``preserve_shape``.
        label: class numbers, one per softmax.
        grad_scale: factor of the gradient.
        ignore_label: label without gradient if ``use_ignore``, and not counted by ``valid`` in any case.
        multi_output: softmax over axis 1.
        use_ignore: see ``ignore_label``.
        preserve_shape: softmax over the last axis.
        normalization: what the gradient is divided by: ``null`` 1 (with ``multi_output`` the positions of an image),
            ``batch`` times the batch, ``valid`` the labels that are not ``ignore_label``, at least 1.
        out_grad: multiply with the gradient from above, which is not looked at otherwise.
        smooth_alpha: part of the target given to the other classes.

    Returns:
        Probabilities in the shape of ``data``.

    Raises:
        ValueError: an unknown normalisation, or a label that does not fit.
    """
    _check_normalization(normalization)
    if preserve_shape:
        logits = data.reshape(-1, data.shape[-1], 1)
    else:
        logits = data.reshape(len(data), data.shape[1], -1) if multi_output else data.reshape(len(data), -1, 1)
    batch, classes, positions = logits.shape
    if label.numel() != batch * positions:
        raise ValueError(f"label {tuple(label.shape)} does not fit data {tuple(data.shape)}")
    labels = label.detach().reshape(batch, 1, positions).trunc()
    counted = labels != int(ignore_label)
    share = smooth_alpha / max(1, classes - 1)
    numbers = torch.arange(classes, device=data.device)[None, :, None]
    target = torch.where(labels == numbers, 1.0 - smooth_alpha, share)
    divisor = _divisor(normalization, counted.sum(), batch * positions, positions)
    factor = (counted if use_ignore else torch.ones_like(counted)) * grad_scale / divisor
    return _SoftmaxHead.apply(logits, target, factor, out_grad).view(data.shape)  # type: ignore[no-any-return, no-untyped-call]


def make_loss(
    data: Tensor, grad_scale: float = 1.0, valid_thresh: float = 0.0, normalization: Normalization = "null"
) -> Tensor:
    """``MakeLoss``: the input, with a constant gradient.

    Args:
        data: losses, batch first.
        grad_scale: the gradient before division.
        valid_thresh: ``valid`` counts elements above this.
        normalization: what the gradient is divided by: ``null`` 1, ``batch`` the batch, ``valid`` the counted elements
            (at least 1); elements that are not counted get the gradient as well.

    Raises:
        ValueError: an unknown normalisation.
    """
    _check_normalization(normalization)
    batch = len(data) if data.dim() else 1
    divisor = _divisor(normalization, (data.detach() > valid_thresh).sum(), batch, 1)
    return _LossHead.apply(data, (grad_scale / divisor).to(data.dtype))  # type: ignore[no-any-return, no-untyped-call]


def _divisor(normalization: Normalization, valid: Tensor, batch: int, null: int) -> Tensor:
    if normalization == "valid":
        return valid.clamp(min=1)
    return torch.full_like(valid, batch if normalization == "batch" else null)


def _check_normalization(value: str) -> None:
    if value not in ("null", "batch", "valid"):
        raise ValueError(f"normalization is 'null', 'batch' or 'valid', not {value!r}")


class _SoftmaxHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, factor: Tensor, out_grad: bool) -> Tensor:
        probabilities = logits.softmax(dim=1)
        ctx.save_for_backward(probabilities, target, factor)
        ctx.out_grad = out_grad
        return probabilities

    @staticmethod
    def backward(ctx: Any, *from_above: Tensor) -> tuple[Tensor, None, None, None]:
        probabilities, target, factor = ctx.saved_tensors
        gradient = (probabilities - target) * factor
        return gradient * from_above[0] if ctx.out_grad else gradient, None, None, None


class _LossHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, data: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return data.clone()

    @staticmethod
    def backward(ctx: Any, *from_above: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0].expand_as(from_above[0]).contiguous(), None
