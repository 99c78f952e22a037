"""One trial: a training that stops once it is among the worse half."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from singleshot.errors import SingleshotError
from singleshot.training.logs import EvaluationRecord, StepRecord
from singleshot.training.result import TrainResult
from singleshot.tuning.study import RUNGS, Trial, survives

EVALUATIONS = 4
"""Of a run, the last one among them."""

Train = Callable[..., TrainResult]


class TrialStopped(Exception):
    """A trial is among the worse half of those that came as far."""


class Halving:
    """A callback that stops a run at the first evaluations if it is among the worse half.

    Args:
        metric: the deciding one.
        former: of the other trials, the metric at each evaluation; ``None`` never stops the run.

    Attributes:
        values: the metric at each evaluation so far.
    """

    def __init__(self, metric: str, former: Sequence[Sequence[float]] | None) -> None:
        self._metric = metric
        self._former = former
        self.values: list[float] = []

    def on_step(self, record: StepRecord) -> None:
        """Nothing."""

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Compare.

        Raises:
            TrialStopped: the run is among the worse half.
        """
        rung, value = len(self.values), float(record.metrics[self._metric])
        value = 0.0 if math.isnan(value) else value
        self.values.append(value)
        if self._former is None or rung >= RUNGS:
            return
        if not survives(value, [others[rung] for others in self._former if len(others) > rung]):
            raise TrialStopped

    def close(self) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs trials.

    Attributes:
        train: `singleshot.train`, or what stands for it.
        base: file of the settings that all trials share.
        metric: the deciding one.
        device: as `singleshot.train` has it.
    """

    train: Train
    base: Path
    metric: str
    device: str

    def run(
        self,
        trial: Trial,
        folder: Path,
        length: Mapping[str, float],
        changes: Mapping[str, Any],
        former: Sequence[Sequence[float]] | None,
        *,
        overwrite: bool,
        console: Console,
    ) -> tuple[Trial, TrainResult | None]:
        """Run a trial.

        Args:
            trial: its role, choices and seed.
            folder: of the run.
            length: of the run: ``{"epochs": 12}``.
            changes: what the choices mean.
            former: as `Halving` has it.
            overwrite: whether ``folder`` may hold another run.
            console: where the run's progress goes.

        Returns:
            The trial as it ended, and the result of the training if it came to an end.

        Raises:
            SingleshotError: of a run with the defaults; others fail.
        """
        halving = Halving(self.metric, former)
        ((_, total),) = length.items()
        settings = {"evaluation.every": total / EVALUATIONS, "evaluation.share": 1, "evaluation.patience": None}
        started, result, ended = time.monotonic(), None, trial
        try:
            result = self.train(
                recipe=self.base,
                out=folder,
                overwrite=overwrite,
                device=self.device,
                console=console,
                callbacks=[halving],
                settings={**length, **settings, **changes, "seed": trial.seed},
            )
            ended = trial.model_copy(update={"value": result.metrics.get(self.metric)})
        except TrialStopped:
            ended = trial.model_copy(update={"state": "stopped"})
        except SingleshotError as error:
            if trial.role in ("default", "repeat"):
                raise
            ended = trial.model_copy(update={"state": "failed", "note": str(error).partition("\n")[0]})
        seconds = time.monotonic() - started
        return ended.model_copy(update={"rungs": tuple(halving.values), "duration_s": round(seconds, 2)}), result
