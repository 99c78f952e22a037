"""BatchNorm folded into the convolution before it: the same numbers, a fifth less time on a CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from singleshot.models.layers import SameConv2d
from singleshot.models.mxnet_norm import MXNetBatchNorm2d

# Exactly these: what a subclass that we do not know does besides (timm's have an activation, or standardise weights)
# would be lost.
CONVOLUTIONS = (nn.Conv2d, SameConv2d)
NORMS = (nn.BatchNorm2d, MXNetBatchNorm2d)


@torch.no_grad()
def fold_batch_norms(network: nn.Module, in_channels: int, image_size_hw: tuple[int, int]) -> int:
    """Fold every BatchNorm that reads a convolution's output, and alone reads it; in place.

    Which do is seen in a run on no image, so that it holds for any architecture.

    Args:
        network: in eval mode.
        in_channels: of its images.
        image_size_hw: of its images.

    Returns:
        How many were folded.
    """
    pairs = _pairs(network, torch.empty(0, in_channels, *image_size_hw, device=next(network.parameters()).device))
    for conv, norm in pairs:
        _fold(conv, norm)
    folded = {norm for _, norm in pairs}
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in folded:
                setattr(parent, name, nn.Identity())
    return len(pairs)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """``gamma * (w x + b - mean) / sqrt(var + eps) + beta`` as one convolution."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine and not getattr(norm, "fixed_gamma", False):
        scale = scale * norm.weight
    shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    bias = shift * scale + (norm.bias if norm.affine else 0.0)
    weight = conv.weight * scale.to(conv.weight.dtype)[:, None, None, None]
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)


class _Uses(TorchFunctionMode):
    """Counts the operators that read each tensor; keeps every tensor, so that no two have the same id."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self._kept: list[object] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if _tensors(result):  # asking for a shape reads no numbers
            self.count.update({id(tensor) for tensor in _tensors((args, tuple((kwargs or {}).values())))})
            self._kept.append(result)
        return result


def _tensors(value: object) -> list[Tensor]:
    """The tensors in what an operator takes or gives."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, (tuple, list)) else []


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the BatchNorms that alone read their outputs; each runs once."""
    made: dict[int, nn.Conv2d] = {}
    calls: Counter[nn.Module] = Counter()
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d, Tensor]] = []

    def after_conv(conv: nn.Conv2d, _: object, output: Tensor) -> None:
        calls[conv] += 1
        made[id(output)] = conv

    def before_norm(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        calls[norm] += 1
        if id(inputs[0]) in made:
            found.append((made[id(inputs[0])], norm, inputs[0]))

    handles = [m.register_forward_hook(after_conv) for m in network.modules() if type(m) in CONVOLUTIONS]
    handles += [m.register_forward_pre_hook(before_norm) for m in network.modules() if type(m) in NORMS]
    try:
        with _Uses() as uses:
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return [
        (conv, norm)
        for conv, norm, between in found
        if calls[conv] == calls[norm] == 1 and uses.count[id(between)] == 1 and norm.track_running_stats
    ]
