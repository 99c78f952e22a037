"""Convolutions on maps smaller than their kernels, computed by the part of the kernel that meets the map.

Where a map is so small that some entries of a kernel only ever meet padding, those entries have gradient zero, but
oneDNN (torch 2.13, CPUs that compute in bf16) leaves their gradients unwritten: a run learns from whatever the memory
held. Leaving those entries out gives the same convolution, and autograd writes the zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from singleshot.models.fast_conv.conv_mode import Conv2dMode
from singleshot.models.network import Network


class SmallMapConvolutions(Conv2dMode):
    """Within this context ``conv2d`` leaves out the entries of kernels that meet only padding.

    Attributes:
        count: convolutions that had such entries.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: int = 0

    def convolve(
        self, images: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
    ) -> Tensor | None:
        """The same by a part of the kernel, if the rest of it meets only padding."""
        axes = _axes(images, weight, stride, padding, dilation)
        if not any(axis.is_partial for axis in axes):
            return None
        self.count += 1
        return _convolve(images, weight, bias, axes, groups)


def has_small_maps(network: Network, size_hw: tuple[int, int]) -> bool:
    """Whether a network has convolutions that `SmallMapConvolutions` changes at an input size; nothing is computed."""
    mode = SmallMapConvolutions()
    with mode:
        _see_no_image(network, size_hw)
    return mode.count > 0


def single_norms(network: Network, size_hw: tuple[int, int], batch: int) -> list[nn.Module]:
    """BatchNorm layers for which a batch has a single number per channel, which has no variance: they must stand still.

    Those are the layers on maps of one cell, if the batch is one image.
    """
    found: list[nn.Module] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[2:].numel() == 1:
            found.append(module)

    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] if batch == 1 else []
    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        if norms:
            _see_no_image(network, size_hw)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _see_no_image(network: Network, size_hw: tuple[int, int]) -> None:
    """Call a network on a batch of no image: every layer sees its map's size, and nothing is computed."""
    images = next(network.parameters()).new_empty((0, network.backbone.in_channels, *size_hw))
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            network(images)
    finally:
        for module, mode in modes:
            module.training = mode


class _Axis(NamedTuple):
    """The entries ``first`` to ``last`` of a kernel's axis, and what to pad (or, negative, cut) for them."""

    kernel: int
    first: int
    last: int
    before: int
    after: int
    stride: int
    dilation: int

    @property
    def is_partial(self) -> bool:
        return self.last - self.first + 1 < self.kernel


def _axes(images: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any) -> list[_Axis]:
    """Both axes of a convolution; none where its padding is given in words."""
    if isinstance(padding, str) or images.ndim != 4:
        return []
    strides, paddings, dilations = (_pair(value) for value in (stride, padding, dilation))
    return [_axis(images.shape[2 + i], weight.shape[2 + i], strides[i], paddings[i], dilations[i]) for i in range(2)]


def _axis(size: int, kernel: int, stride: int, padding: int, dilation: int) -> _Axis:
    """From the first to the last entry that meets a cell of the map in some position of the kernel."""
    positions = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    met = [
        entry
        for entry in range(kernel)
        if any(0 <= at * stride - padding + entry * dilation < size for at in range(positions))
    ]
    first, last = (met[0], met[-1]) if met else (0, kernel - 1)
    before = padding - first * dilation
    after = (positions - 1) * stride + dilation * (last - first) + 1 - size - before
    return _Axis(kernel, first, last, before, after, stride if positions > 1 else 1, dilation)


def _convolve(images: Tensor, weight: Tensor, bias: Tensor | None, axes: Sequence[_Axis], groups: int) -> Tensor:
    rows, columns = axes
    weight = weight[:, :, rows.first : rows.last + 1, columns.first : columns.last + 1]
    margins = (columns.before, columns.after, rows.before, rows.after)
    padding = (rows.before, columns.before)
    if min(margins) < 0 or padding != (rows.after, columns.after):
        images, padding = functional.pad(images, margins), (0, 0)
    dilation = tuple(axis.dilation if axis.last > axis.first else 1 for axis in axes)
    return functional.conv2d(images, weight, bias, tuple(a.stride for a in axes), padding, dilation, groups)


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return first, second
