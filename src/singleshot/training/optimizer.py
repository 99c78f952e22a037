"""Optimiser, its parameter groups, and which parts of a network learn at all."""

from __future__ import annotations

import difflib
import math
from collections import defaultdict
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import nn

from singleshot.errors import ConfigError
from singleshot.training.config import OptimizerConfig

# What "auto" means. SGD: SSD section 3 (1e-3 at batch 32, 5e-4). AdamW: fine-tuning the bundled detector.
AUTO_LR = {"sgd": (1e-3, 32), "adamw": (1e-3, 16)}
AUTO_DECAY = {"sgd": 5e-4, "adamw": 1e-2}
# Without BatchNorm an AdamW step of the same size changes activations by far more.
WITHOUT_NORM = 0.1


class LearningRate(NamedTuple):
    """The learning rate of a run and how it came about, for the log."""

    value: float
    reason: str


def learning_rate(config: OptimizerConfig, effective_batch: int, has_norm: bool = True) -> LearningRate:
    """The learning rate for an effective batch: as given, or scaled linearly (SGD) or by the root (AdamW).

    Args:
        config: optimiser, rate and the batch it was chosen for.
        effective_batch: images of an optimiser step.
        has_norm: whether the network has BatchNorm; ``auto`` is careful without.
    """
    lr, lr_batch = config.lr, config.lr_batch
    if lr == "auto":
        lr, lr_batch = AUTO_LR[config.name]
        lr = lr * WITHOUT_NORM if config.name == "adamw" and not has_norm else lr
    if lr_batch is None or lr_batch == effective_batch:
        return LearningRate(lr, f"{lr:g}")
    ratio = effective_batch / lr_batch
    scaled = lr * (ratio if config.name == "sgd" else math.sqrt(ratio))
    rule = "linearly" if config.name == "sgd" else "by the root"
    return LearningRate(scaled, f"{scaled:g} ({lr:g} at batch {lr_batch}, scaled {rule} to batch {effective_batch})")


def parameter_groups(network: nn.Module, config: OptimizerConfig, lr: float) -> list[dict[str, Any]]:
    """Learning parameters by what happens to them: weights, biases and normalisation scales, per learning rate.

    Args:
        network: frozen parameters (``requires_grad`` off) are left out.
        config: decay and learning-rate factors.
        lr: learning rate of the weights.

    Returns:
        Groups with ``params``, ``lr``, ``base_lr`` (what the schedule multiplies), ``weight_decay`` and ``name``, in an
        order that depends only on the network's parameter names.

    Raises:
        ConfigError: a key of ``optimizer.lr_factors`` is no part of the network.
    """
    names = [name for name, _ in network.named_parameters()]
    for part in config.lr_factors:
        if not any(_under(name, part) for name in names):
            raise ConfigError(f"optimizer.lr_factors: {_no_part(part, names)}")
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups[_treatment(name, parameter, config)].append(parameter)
    return [
        {"params": params, "lr": lr * factor, "base_lr": lr * factor, "weight_decay": decay, "name": kind}
        for (kind, factor, decay), params in groups.items()
    ]


def build_optimizer(network: nn.Module, config: OptimizerConfig, lr: float) -> torch.optim.Optimizer:
    """SGD or AdamW over ``parameter_groups``, with torch's fused kernels."""
    groups = parameter_groups(network, config, lr)
    if not groups:
        raise ConfigError("freeze leaves nothing to train: name fewer parts")
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=lr, betas=(config.momentum, 0.999), fused=True)


def freeze_parts(network: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """Stop the named parts from learning.

    Args:
        network: its parameters are changed in place.
        patterns: prefixes (``backbone``, ``backbone.conv1_1``) or shell patterns (``backbone.conv[12]_*``).

    Returns:
        Names of the frozen parameters, for the log.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not any(_under(name, pattern) for name in names):
            raise ConfigError(f"freeze: {_no_part(pattern, names)}")
    frozen = [name for name in names if any(_under(name, pattern) for pattern in patterns)]
    for name in frozen:
        network.get_parameter(name).requires_grad_(False)
    return frozen


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a network has BatchNorm layers."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def still_norms(network: nn.Module, batch_norm: str) -> list[nn.Module]:
    """BatchNorm layers that keep their statistics: all of them for ``eval``, else those whose scale is frozen."""
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [m for m in layers if batch_norm == "eval" or (m.weight is not None and not m.weight.requires_grad)]


def set_norm_momentum(network: nn.Module, momentum: float | None) -> None:
    """Set the share of a batch in the running statistics of every BatchNorm; ``None`` leaves them."""
    for module in network.modules():
        if momentum is not None and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum


def _treatment(name: str, parameter: nn.Parameter, config: OptimizerConfig) -> tuple[str, float, float]:
    """(kind, learning-rate factor, weight decay) of a parameter."""
    decay = AUTO_DECAY[config.name] if config.weight_decay == "auto" else config.weight_decay
    parts = [part for part in config.lr_factors if _under(name, part)]
    factor = config.lr_factors[max(parts, key=len)] if parts else 1.0
    if name.rpartition(".")[2] == "bias":
        return "bias", factor * config.bias_lr_factor, decay if config.decay_bias else 0.0
    if parameter.ndim <= 1:  # one number per channel: BatchNorm's weight, L2Norm's scale
        return "norm", factor, decay if config.decay_norm else 0.0
    return "weight", factor, decay


def _under(name: str, pattern: str) -> bool:
    """Whether a parameter is (in) the part that a prefix or shell pattern names."""
    return name == pattern or name.startswith(pattern + ".") or fnmatchcase(name, pattern)


def _no_part(pattern: str, names: list[str]) -> str:
    parts = sorted({".".join(name.split(".")[:depth]) for name in names for depth in (1, 2, 3)})
    near = difflib.get_close_matches(pattern, parts, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"parts: {', '.join(sorted({n.split('.')[0] for n in names}))}"
    return f"'{pattern}' is no part of the network; {hint}"
