"""Weights & Biases: a run of the project ``singleshot``."""

from __future__ import annotations

import os
from typing import Any

from singleshot.training.logs import EvaluationRecord, LoggedRun, StepRecord, evaluation_numbers, step_numbers
from singleshot.training.registry import LOGGERS, LoggerKind

PROJECT = "singleshot"


class WandbLog:
    """Numbers and settings in the run's folder ``wandb``, to be uploaded later; ``WANDB_MODE=online`` sends them.

    A resumed run is a further run of the same group.
    """

    def __init__(self, run: LoggedRun) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE") or "offline"
        name = run.folder.name
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=name,
            group=name,
            dir=str(run.folder),
            mode=mode,
            config=dict(run.settings),
            settings=wandb.Settings(silent=True, console="off", disable_git=True),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        later = "; upload with: wandb sync" if mode == "offline" else ""
        run.say(f"wandb: {mode}, in {run.folder / 'wandb'}{later}")

    def on_step(self, record: StepRecord) -> None:
        """Losses, learning rate and speed."""
        self._run.log({**step_numbers(record), "step": record.step})

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Metrics."""
        self._run.log({**evaluation_numbers(record), "step": record.step})

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


LOGGERS.register("wandb")(LoggerKind(WandbLog, "wandb"))
