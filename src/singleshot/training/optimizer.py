"""Optimiser, its parameter groups, and which parts of a network learn at all."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from singleshot.errors import ConfigError
from singleshot.models.layers import L2Norm
from singleshot.training.optimizer_config import OptimizerConfig
from singleshot.training.part_names import is_named, matching
from singleshot.training.registry import OPTIMIZERS

PREDICTORS = ("head.boxes", "head.logits")


NEW_CLASSES_FACTOR, MANY_CLASSES = 4.0, 20
"""Of the learning rate, in a head with so many new classes (docs/benchmarks.md, small sets in minutes)."""


class LearningRate(NamedTuple):
    """The learning rate of a run and how it came about, for the log."""

    value: float
    reason: str


def learning_rate(config: OptimizerConfig, effective_batch: int, has_norm: bool = True) -> LearningRate:
    """The learning rate for an effective batch: as given, or scaled as the optimiser's kind says.

    Args:
        config: optimiser, rate and the batch it was chosen for.
        effective_batch: images of an optimiser step.
        has_norm: whether the network has BatchNorm; ``auto`` is careful without.
    """
    kind = OPTIMIZERS.get(config.name, "optimizer.name")
    lr, lr_batch, highest = config.lr, config.lr_batch, math.inf
    if lr == "auto":
        highest = kind.highest
        lr, lr_batch = kind.lr if has_norm else kind.lr * kind.without_norm, kind.lr_batch
    if lr_batch is None or lr_batch == effective_batch:
        return LearningRate(lr, f"{lr:g}")
    ratio = effective_batch / lr_batch
    scaled = lr * (ratio if kind.scaling == "linear" else math.sqrt(ratio))
    rule = "linearly" if kind.scaling == "linear" else "by the root"
    if scaled > highest:
        return LearningRate(highest, f"{highest:g} (the most that auto takes)")
    return LearningRate(scaled, f"{scaled:g} ({lr:g} at batch {lr_batch}, scaled {rule} to batch {effective_batch})")


def lr_factors(config: OptimizerConfig, new_classes: int = 0) -> dict[str, float]:
    """What ``lr_factors`` means.

    Args:
        config: the settings.
        new_classes: how many classes a detector's head has to learn, while all else has learnt.
    """
    if config.lr_factors != "auto":
        return config.lr_factors
    return {"head": NEW_CLASSES_FACTOR} if new_classes >= MANY_CLASSES and config.name == "adamw" else {}


def parameter_groups(network: nn.Module, config: OptimizerConfig, lr: float) -> list[dict[str, Any]]:
    """Learning parameters by what happens to them: weights, biases and normalisation scales, per learning rate.

    Args:
        network: frozen parameters (``requires_grad`` off) are left out.
        config: decay and learning-rate factors.
        lr: learning rate of the weights.

    Returns:
        Groups with ``params``, ``lr``, ``base_lr`` (what the schedule multiplies), ``factor`` (of ``lr``),
        ``weight_decay`` and ``name``, in an order that depends only on the network's parameter names.

    Raises:
        ConfigError: a part that ``optimizer.lr_factors`` or ``optimizer.bias_lr_parts`` names is not in the network.
    """
    names = [name for name, _ in network.named_parameters()]
    matching(list(lr_factors(config)), names, {}, "optimizer.lr_factors")
    quick = (
        names if config.bias_lr_parts is None else matching(config.bias_lr_parts, names, {}, "optimizer.bias_lr_parts")
    )
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = defaultdict(list)
    for name, kind in _kinds(network, config).items():
        parameter = network.get_parameter(name)
        if parameter.requires_grad:
            bias_factor = config.bias_lr_factor if kind == "bias" and name in quick else 1.0
            treatment = kind, _lr_factor(name, config) * bias_factor, _decay(kind, config)
            groups[treatment].append(parameter)
    return [
        {
            "params": params,
            "lr": lr * factor,
            "base_lr": lr * factor,
            "factor": factor,
            "weight_decay": decay,
            "name": kind,
        }
        for (kind, factor, decay), params in groups.items()
    ]


def build_optimizer(network: nn.Module, config: OptimizerConfig, lr: float) -> torch.optim.Optimizer:
    """The optimiser that ``config.name`` says, over ``parameter_groups``."""
    groups = parameter_groups(network, config, lr)
    if not groups:
        raise ConfigError("freeze leaves nothing to train: name fewer parts")
    return OPTIMIZERS.get(config.name, "optimizer.name").build(groups, config)


def freeze_parts(
    network: nn.Module,
    patterns: Sequence[str],
    originals: Mapping[str, str] | None = None,
    taken_over: Sequence[str] = (),
) -> list[str]:
    """Stop the named parts from learning.

    Args:
        network: its parameters are changed in place.
        patterns: prefixes, shell patterns or regular expressions, see `matching`.
        originals: names of another system by ours, which patterns may use, too.
        taken_over: tensors of the starting point that stay as they are, but for those of the predictors: mxnet-ssd's
            fine-tuning.

    Returns:
        Names of the frozen parameters, for the log.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    names = [name for name, _ in network.named_parameters()]
    named = {*matching(patterns, names, originals or {}, "freeze"), *_but_predictors(taken_over)}
    frozen = [name for name in names if name in named]
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


def _kinds(network: nn.Module, config: OptimizerConfig) -> dict[str, str]:
    """What each parameter is: ``weight``, ``bias``, ``norm``, or ``l2``: a scale of L2Norm, where those are apart."""
    norms = [path for path, module in network.named_modules() if isinstance(module, L2Norm)]
    scales = {f"{path}.scale" for path in norms} if config.l2_decay_factor is not None else set()
    kinds = {}
    for name, parameter in network.named_parameters():
        if name in scales:
            kinds[name] = "l2"
        elif name.rpartition(".")[2] == "bias":
            kinds[name] = "bias"
        else:
            kinds[name] = "norm" if parameter.ndim <= 1 else "weight"  # one number per channel
    return kinds


def _decay(kind: str, config: OptimizerConfig) -> float:
    auto = OPTIMIZERS.get(config.name, "optimizer.name").weight_decay
    decay = auto if config.weight_decay == "auto" else config.weight_decay
    factors = {"weight": 1.0, "bias": float(config.decay_bias), "norm": float(config.decay_norm)}
    return decay * (factors | {"l2": config.l2_decay_factor or 0.0})[kind]


def _lr_factor(name: str, config: OptimizerConfig) -> float:
    factors = lr_factors(config)
    parts = [part for part in factors if is_named(name, part, setting="optimizer.lr_factors")]
    return factors[max(parts, key=len)] if parts else 1.0


def _but_predictors(names: Sequence[str]) -> list[str]:
    return [name for name in names if not any(is_named(name, part) for part in PREDICTORS)]
