"""What a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from singleshot.detector import Detector, load
from singleshot.training.checkpoint import RunState
from singleshot.training.loop import Ending


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        folder: the run's folder.
        ending: ``finished``, ``early`` (no longer improved) or ``interrupted`` (to be resumed).
        best, last: weights files. ``best`` is what to use; it is ``last`` where nothing was measured yet.
        metrics: of the best weights on the held-out split, by name; empty without one.
        steps: optimiser steps made.
        duration_s: seconds of all sessions.
        report: the HTML report, where one was written.
        is_first: whether this process wrote the files; of several that learnt together one did.
    """

    folder: Path
    ending: Ending
    best: Path
    last: Path
    metrics: dict[str, float]
    steps: int
    duration_s: float
    report: Path | None = None
    is_first: bool = True

    def load(self) -> Detector:
        """The trained detector, ready to predict."""
        return load(self.best)


def result_of(folder: Path, ending: Ending, run: RunState) -> TrainResult:
    """The result of a run that has ended as ``run`` says."""
    last = folder / "last.safetensors"
    best = folder / "best.safetensors" if run.best else last
    metrics = run.best.metrics if run.best else {}
    return TrainResult(folder, ending, best, last, metrics, run.step, run.elapsed_s)
