"""Statistics for BatchNorms that came folded, without changing what the network predicts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def restore_statistics(network: nn.Module, batches: Iterable[Tensor], names: Iterable[str] | None = None) -> int:
    """Give BatchNorms the statistics of their real inputs, and the scale and shift that keep them the same function.

    A folded BatchNorm (mean 0, variance 1) predicts exactly but cannot train: batch statistics would differ from its
    own, and every activation would change at the first step. Afterwards they agree.

    Args:
        network: changed in place; its predictions are not, up to rounding.
        batches: preprocessed images ``[B, C, H, W]``; a few hundred images are plenty.
        names: BatchNorm modules by name; ``None`` takes all.

    Returns:
        Number of BatchNorms changed.

    Raises:
        ValueError: there are no images, or a BatchNorm keeps no statistics.
    """
    norms = {name: part for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)}
    chosen = [norms[name] for name in (norms if names is None else names)]
    sums: dict[nn.Module, Tensor] = {norm: torch.zeros(2, norm.num_features, dtype=torch.float64) for norm in chosen}
    counts: dict[nn.Module, int] = dict.fromkeys(chosen, 0)

    def collect(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        count = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        mean, variance = mean.double().cpu(), variance.double().cpu()
        sums[norm] += count * torch.stack([mean, variance + mean * mean])
        counts[norm] += count

    handles = [norm.register_forward_pre_hook(collect) for norm in chosen]
    was_training = network.training
    network.eval()
    try:
        for batch in batches:
            network(batch)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    for norm in chosen:
        if not counts[norm]:
            raise ValueError("restore_statistics needs at least one image")
        mean, square = sums[norm] / counts[norm]
        _reparametrise(norm, mean, (square - mean * mean).clamp(min=0))
    return len(chosen)


def _reparametrise(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Same function of the input, with other running statistics; computed in float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a BatchNorm without running statistics (track_running_stats=False) has none to restore")
    slope = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    offset = norm.bias.double() - norm.running_mean.double() * slope
    mean, variance = mean.to(slope.device), variance.to(slope.device)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    # From the statistics as stored, so that their rounding does not change the function.
    norm.weight.copy_(slope * (norm.running_var.double() + norm.eps).sqrt())
    norm.bias.copy_(offset + norm.running_mean.double() * slope)
