"""The optimisers by name, each with its usual learning rate and weight decay."""

from __future__ import annotations

from typing import Any

from torch import optim

from singleshot.training.optimizer_config import OptimizerConfig
from singleshot.training.registry import OPTIMIZERS, OptimizerKind

Groups = list[dict[str, Any]]


def _sgd(groups: Groups, config: OptimizerConfig) -> optim.Optimizer:
    return optim.SGD(groups, momentum=config.momentum, fused=True)


def _adamw(groups: Groups, config: OptimizerConfig) -> optim.Optimizer:
    return optim.AdamW(groups, betas=(config.momentum, 0.999), fused=True)


def _adam(groups: Groups, config: OptimizerConfig) -> optim.Optimizer:
    return optim.Adam(groups, betas=(config.momentum, 0.999), fused=True)


def _rmsprop(groups: Groups, config: OptimizerConfig) -> optim.Optimizer:
    return optim.RMSprop(groups, alpha=config.momentum, eps=1e-8)


def _adadelta(groups: Groups, config: OptimizerConfig) -> optim.Optimizer:
    return optim.Adadelta(groups, rho=config.momentum, eps=1e-5)


# SSD section 3: 1e-3 at batch 32, 5e-4.
OPTIMIZERS.register("sgd")(OptimizerKind(_sgd, 1e-3, 32, 5e-4, scaling="linear"))
# Fine-tuning the bundled detector. Without BatchNorm a step of the same size changes activations by far more.
OPTIMIZERS.register("adamw")(OptimizerKind(_adamw, 1.5e-3, 8, 1e-2, without_norm=0.05, highest=2e-3))
# As mxnet-ssd uses these three: no decay with Adam and Adadelta, a tenth of SGD's rate with RMSProp, MXNet's constants.
OPTIMIZERS.register("adam")(OptimizerKind(_adam, 1e-3, 16, 0.0, without_norm=0.1))
OPTIMIZERS.register("rmsprop")(OptimizerKind(_rmsprop, 1e-4, 32, 5e-4))
OPTIMIZERS.register("adadelta")(OptimizerKind(_adadelta, 1.0, None, 0.0))
