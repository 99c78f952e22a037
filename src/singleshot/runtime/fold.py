"""Layers that become part of the one before them: BatchNorm of a convolution, ReLU and pooling of a faster one.

Which do is seen in a run on no image, so that it holds for any architecture.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from singleshot.kernels.winograd import kernel
from singleshot.models.fast_conv.inference import WinogradConv2d, fits, halves
from singleshot.models.layers import SameConv2d
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.shared_norm import SharedBatchNorm2d

# Exactly these: what a subclass that we do not know does besides (timm's have an activation, or standardise weights)
# would be lost.
CONVOLUTIONS = (nn.Conv2d, SameConv2d)
NORMS = (nn.BatchNorm2d, MXNetBatchNorm2d, SharedBatchNorm2d)


Module = TypeVar("Module", bound=nn.Module)


def eval_copy(network: Module) -> Module:
    """A copy in eval mode that shares all tensors, whose modules can be replaced and changed."""
    shared: dict[int, object] = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, shared).eval()


@torch.no_grad()
def fold_batch_norms(network: nn.Module, in_channels: int, image_size_hw: tuple[int, int]) -> int:
    """Fold every BatchNorm that reads a convolution's output, and alone reads it; in place.

    Args:
        network: in eval mode.
        in_channels: of its images.
        image_size_hw: of its images.

    Returns:
        How many were folded.
    """
    pairs = [
        (conv, norm)
        for conv, norm in followers(network, CONVOLUTIONS, NORMS, in_channels, image_size_hw)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats
    ]
    for conv, norm in pairs:
        _fold(conv, norm)
    replace(network, {norm: nn.Identity() for _, norm in pairs})
    return len(pairs)


@torch.no_grad()
def use_winograd(network: nn.Module, in_channels: int, image_size_hw: tuple[int, int]) -> list[nn.Conv2d]:
    """Compute the 3x3 convolutions that can be by `WinogradConv2d`, with the ReLU and pooling behind them; in place.

    Args:
        network: in eval mode, float32, on the CPU.
        in_channels, image_size_hw: of its images.

    Returns:
        The convolutions; none where there is no kernel.
    """
    library = kernel()
    if library is None:
        return []
    relus = [module for module in network.modules() if type(module) is nn.ReLU]
    was_inplace = [relu.inplace for relu in relus]
    for module in relus:  # a tensor that is overwritten would look as if others read it
        module.inplace = False
    activation = dict(followers(network, CONVOLUTIONS, (nn.ReLU,), in_channels, image_size_hw))
    pooling = dict(followers(network, (nn.ReLU,), (nn.MaxPool2d,), in_channels, image_size_hw))
    for module, inplace in zip(relus, was_inplace, strict=True):
        module.inplace = inplace
    found: dict[nn.Module, nn.Module] = {}
    for conv in [module for module in network.modules() if fits(module)]:
        relu = activation.get(conv)
        pool = pooling.get(relu) if relu else None
        assert isinstance(conv, nn.Conv2d)
        pool = pool if isinstance(pool, nn.MaxPool2d) and halves(pool) and conv.dilation == (1, 1) else None
        found[conv] = WinogradConv2d(library, conv, relu is not None, pool)
        found |= {module: nn.Identity() for module in (relu, pool) if module is not None}
    replace(network, found)
    return [module.conv for module in found.values() if isinstance(module, WinogradConv2d)]


def replace(network: nn.Module, found: dict[nn.Module, nn.Module]) -> None:
    """Put modules in the places of others, wherever these are children."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in found:
                setattr(parent, name, found[child])


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


def followers(
    network: nn.Module,
    first: tuple[type[nn.Module], ...],
    second: tuple[type[nn.Module], ...],
    in_channels: int,
    image_size_hw: tuple[int, int],
) -> list[tuple[nn.Module, nn.Module]]:
    """Modules of some types and those of others that alone read their outputs; each runs once."""
    made: dict[int, nn.Module] = {}
    calls: Counter[nn.Module] = Counter()
    found: list[tuple[nn.Module, nn.Module, Tensor]] = []

    def after_first(module: nn.Module, _: object, output: Tensor) -> None:
        calls[module] += 1
        made[id(output)] = module

    def before_second(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[module] += 1
        if id(inputs[0]) in made:
            found.append((made[id(inputs[0])], module, inputs[0]))

    handles = [m.register_forward_hook(after_first) for m in network.modules() if type(m) in first]
    handles += [m.register_forward_pre_hook(before_second) for m in network.modules() if type(m) in second]
    try:
        with _Uses() as uses:
            network(torch.empty(0, in_channels, *image_size_hw, device=next(network.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return [
        (before, after)
        for before, after, between in found
        if calls[before] == calls[after] == 1 and uses.count[id(between)] == 1
    ]
