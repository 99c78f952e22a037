"""Where a run stands and which learning rate that means. Pure arithmetic on the run's length: no state, no torch."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from singleshot.training.config import Unit
from singleshot.training.optimizer_config import ScheduleConfig
from singleshot.training.registry import SCHEDULES

# A run of minutes on a CPU may have fewer steps than a usual warm-up.
AUTO_WARMUP_STEPS = 50
AUTO_WARMUP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class RunLength:
    """How long a run is, in the unit the user chose, and how far it has come.

    Attributes:
        unit: ``epochs``, ``steps`` or ``minutes``.
        total: length in that unit.
        steps_per_epoch: optimiser steps that see as many images as the data set has; need not be whole.
    """

    unit: Unit
    total: float
    steps_per_epoch: float

    def position(self, step: int, elapsed_s: float) -> float:
        """How far the run is after ``step`` optimiser steps and ``elapsed_s`` seconds, in its unit."""
        if self.unit == "steps":
            return float(step)
        return step / self.steps_per_epoch if self.unit == "epochs" else elapsed_s / 60

    def steps(self, step: int, elapsed_s: float) -> int:
        """Optimiser steps of the whole run: exact, or estimated from the pace so far when the length is a time."""
        if self.unit == "steps":
            return int(self.total)
        if self.unit == "epochs":
            return max(1, math.ceil(self.total * self.steps_per_epoch - 1e-6))
        return max(step, round(step * self.total * 60 / elapsed_s)) if elapsed_s > 0 and step > 0 else 0


def lr_factor(schedule: ScheduleConfig, step: int, position: float, total: float) -> float:
    """Multiple of the learning rate for the step that begins now.

    Args:
        schedule: kind, milestones and warm-up.
        step: optimiser steps made so far.
        position: how far the run is, in the unit of ``total`` and of the milestones.
        total: length of the run.
    """
    factor = SCHEDULES.get(schedule.kind, "schedule.kind")(schedule, position, total)
    return factor * (schedule.warmup_factor + (1 - schedule.warmup_factor) * warmth(schedule, step, position, total))


def warmth(schedule: ScheduleConfig, step: int, position: float, total: float) -> float:
    """How far the warm-up has come, 0 to 1, at the step that begins now; arguments as for `lr_factor`."""
    if schedule.warmup_steps != "auto":
        return min(1.0, step / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    return min(1.0, max(step / AUTO_WARMUP_STEPS, position / (AUTO_WARMUP_SHARE * total)))


@SCHEDULES.register("multistep")
def _multistep(schedule: ScheduleConfig, position: float, total: float) -> float:
    return schedule.gamma ** bisect.bisect_right(schedule.milestones, position)


@SCHEDULES.register("cosine")
def _cosine(schedule: ScheduleConfig, position: float, total: float) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * min(position / total, 1.0)))
    return schedule.final_factor + (1 - schedule.final_factor) * cosine


@SCHEDULES.register("constant")
def _constant(schedule: ScheduleConfig, position: float, total: float) -> float:
    return 1.0


def shown_rate(groups: Sequence[Mapping[str, Any]]) -> float:
    """The learning rate of weights without a factor, for the log; where all have one, of those whose factor is nearest.

    Args:
        groups: of an optimiser (`parameter_groups`); those of states that were saved without ``factor`` have 1.
    """

    def order(group: Mapping[str, Any]) -> tuple[bool, float, float]:
        return group["name"] == "weight", -abs(group.get("factor", 1.0) - 1.0), group["lr"]

    return float(max(groups, key=order)["lr"])
