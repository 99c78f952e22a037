"""The trials of a study, what they say, and the file that keeps them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from singleshot.core.files import read_text, write_atomically
from singleshot.core.settings import Frozen
from singleshot.errors import ConfigError
from singleshot.tuning.space import Choice, Defaults

STUDY = "study.json"
RUNGS = 2
"""Evaluations of a run, of four, after which the worse half of what is tried stops."""


class Trial(Frozen):
    """One run.

    Attributes:
        role: ``default`` and its ``repeat`` with another seed, ``search``, and ``confirm``: the best one's repeat.
        choices: of the settings that are tuned.
        seed: of the run.
        state: how it ended; ``stopped`` was among the worse half.
        rungs: the deciding metric at each evaluation.
        value: the metric of the best weights, of a run that finished.
        duration_s: seconds, with everything around the steps.
        note: why it failed.
    """

    role: Literal["default", "repeat", "search", "confirm"]
    choices: dict[str, Choice]
    seed: int
    state: Literal["finished", "stopped", "failed"] = "finished"
    rungs: tuple[float, ...] = ()
    value: float | None = None
    duration_s: float = 0.0
    note: str = ""


class Study(Frozen):
    """A study so far.

    Attributes:
        vary: the settings that are tuned.
        minutes: its whole time, in all sessions.
        metric: the deciding one.
        seed: of the first run.
        defaults: known after the first run.
        trials: in the order in which they ended.
    """

    vary: tuple[str, ...]
    minutes: float
    metric: str
    seed: int = 0
    defaults: Defaults | None = None
    trials: tuple[Trial, ...] = ()

    def of(self, role: str) -> list[Trial]:
        """Its trials of a role."""
        return [trial for trial in self.trials if trial.role == role]

    @property
    def best(self) -> Trial | None:
        """The best of what was tried, the defaults aside."""
        usual = [trial.choices for trial in self.of("default")]
        tried = [t for t in self.of("search") if t.value is not None and t.choices not in usual]
        return max(tried, key=lambda trial: trial.value or 0.0, default=None)

    @property
    def confirmed(self) -> Trial | None:
        """The repeat of the best with another seed."""
        best = self.best
        found = [trial for trial in self.of("confirm") if best and trial.choices == best.choices]
        return found[-1] if found else None

    @property
    def left_s(self) -> float:
        """Seconds of its time that are left."""
        return self.minutes * 60 - sum(trial.duration_s for trial in self.trials)


class Verdict(Frozen):
    """Whether the best is better than the defaults.

    Attributes:
        default, best: means over the seeds that there are; ``None`` where nothing was measured.
        spread: the larger difference between two seeds of the same settings.
        is_better: whether the gain is more than that. Not without a repeat of both.
    """

    default: float | None
    best: float | None
    spread: float | None
    is_better: bool


def judge(study: Study) -> Verdict:
    """Compare the best with the defaults, each run with two seeds."""
    usual = [t.value for t in (*study.of("default"), *study.of("repeat")) if t.value is not None]
    tried = [t.value for t in (study.best, study.confirmed) if t is not None and t.value is not None]
    means = [sum(values) / len(values) if values else None for values in (usual, tried)]
    if len(usual) < 2:
        return Verdict(default=means[0], best=means[1], spread=None, is_better=False)
    spread = abs(usual[0] - usual[1])
    if len(tried) < 2 or means[0] is None or means[1] is None:
        return Verdict(default=means[0], best=means[1], spread=spread, is_better=False)
    spread = max(spread, abs(tried[0] - tried[1]))
    return Verdict(default=means[0], best=means[1], spread=spread, is_better=means[1] - means[0] > spread)


def survives(value: float, former: Sequence[float]) -> bool:
    """Whether a run goes on: it is in the better half of those that came to the same evaluation (ASHA, Li et al. 2018).

    Args:
        value: its metric.
        former: of the others.
    """
    better = sum(other > value for other in former)
    return better < max(math.ceil((len(former) + 1) / 2), 1)


def read_study(folder: Path) -> Study:
    """The study in a folder.

    Raises:
        ConfigError: there is none, or its file is damaged.
    """
    path = folder / STUDY
    if not path.is_file():
        raise ConfigError(f"{folder} holds no study to resume: it needs {STUDY}")
    try:
        return Study.model_validate_json(read_text(path).text)
    except (ValidationError, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{path} is damaged ({reason}): begin anew with `overwrite=True`, or another `out`") from None


def write_study(study: Study, folder: Path) -> None:
    """Keep a study; the file is replaced only when complete."""
    write_atomically(folder / STUDY, study.model_dump_json(indent=1) + "\n")
