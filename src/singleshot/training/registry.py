"""What an optimiser, a schedule and a logger are, and those that there are by name. No torch.

Another package adds one with an entry point of the group ``singleshot.optimizers``, ``.schedules`` or ``.loggers``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from singleshot.core.registry import Registry

if TYPE_CHECKING:
    import torch

    from singleshot.training.logs import LoggedRun, Observer
    from singleshot.training.optimizer_config import OptimizerConfig, ScheduleConfig


@dataclass(frozen=True, slots=True)
class OptimizerKind:
    """An optimiser that ``optimizer.name`` may name.

    Attributes:
        build: (parameter groups as `parameter_groups` makes them, settings) -> the optimiser.
        lr: what ``lr: auto`` means, at a batch of ``lr_batch`` images.
        lr_batch: that batch; ``None``: ``auto`` is the same at every batch.
        weight_decay: what ``weight_decay: auto`` means.
        scaling: how a learning rate follows the batch: ``linear``, or by its ``root``.
        without_norm: factor of ``lr: auto`` for networks without BatchNorm.
        highest: what ``lr: auto`` never exceeds, however large the batch.
    """

    build: Callable[[list[dict[str, Any]], OptimizerConfig], torch.optim.Optimizer]
    lr: float
    lr_batch: int | None
    weight_decay: float
    scaling: Literal["linear", "root"] = "root"
    without_norm: float = 1.0
    highest: float = math.inf


@dataclass(frozen=True, slots=True)
class LoggerKind:
    """A place besides ``metrics.csv`` to which a run's numbers may go.

    Attributes:
        build: (what is known of the run) -> what hears its records; may raise anything.
        package: the module that it needs, which is the name of our extra, too; empty: none.
    """

    build: Callable[[LoggedRun], Observer]
    package: str = ""


Schedule = Callable[["ScheduleConfig", float, float], float]
"""(settings, position in the run, its length in the same unit) -> multiple of the learning rate, before warm-up."""

OPTIMIZERS: Registry[OptimizerKind] = Registry(
    "optimizer",
    dict.fromkeys(("sgd", "adamw", "adam", "rmsprop", "adadelta"), "singleshot.training.optimizer_kinds"),
)
SCHEDULES: Registry[Schedule] = Registry(
    "schedule", dict.fromkeys(("multistep", "cosine", "constant"), "singleshot.training.schedule")
)
LOGGERS: Registry[LoggerKind] = Registry(
    "logger", {name: f"singleshot.training.loggers.{name}" for name in ("tensorboard", "mlflow", "wandb")}
)
