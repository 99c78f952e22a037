"""``singleshot tune``: the defaults twice, then what may be better, then the best of it once more."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from singleshot.augment.config import PRESETS
from singleshot.errors import ConfigError, DataError, SingleshotError
from singleshot.training.config import TrainConfig
from singleshot.training.logs import read_log
from singleshot.training.recipes import read_config, write_config
from singleshot.training.request import new_settings
from singleshot.training.result import TrainResult
from singleshot.training.run_folder import new_folder, sole_use
from singleshot.training.train import train
from singleshot.tuning.proposals import Propose, propose_by_optuna, require_optuna
from singleshot.tuning.space import OWN, SETTINGS, Defaults, changes_of, check_names, default_choices
from singleshot.tuning.study import STUDY, Study, Trial, Verdict, judge, read_study, write_study
from singleshot.tuning.telling import introduce, result_lines, trial_line
from singleshot.tuning.trials import Runner, Train
from singleshot.weights.file import read_spec

BASE = "base.yaml"
BEST = "best.yaml"
DEFAULT_VARY = ("lr", "augment", "batch_size")
# The time is that of so many whole runs: the defaults twice, the best once more, and about ten trials, most of which
# stop at a quarter.
WHOLE_RUNS = 8
# The defaults are repeated after so many trials, not at once: whatever changes in the meantime shows in the spread.
TRIALS_BEFORE_REPEAT = 3
# A trial is begun where so much of a whole run is left for it.
LEAST_OF_A_RUN = 0.5
# So many trials in a row that fail end the search.
FAILURES = 5


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What a study found.

    Attributes:
        folder: of the study.
        best: the file of settings for ``train --recipe``: the defaults where nothing is better.
        verdict: the numbers.
        is_interrupted: whether it was stopped, to be resumed.
    """

    folder: Path
    best: Path | None
    verdict: Verdict
    is_interrupted: bool = False


def tune(
    *,
    minutes: float | None = None,
    vary: Sequence[str] | None = None,
    recipe: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    device: str = "auto",
    console: Console | None = None,
    propose: Propose | None = None,
    train: Train = train,
) -> TuneResult:
    """Look for better settings than the defaults, by short trainings.

    Args:
        minutes: the time of all of them.
        vary: the settings to tune: ``lr``, ``augment``, ``batch_size``, ``size``; by default the first three.
        recipe: the defaults to begin with, as `singleshot.train` has it.
        settings: more of them, by dotted key; ``data.path`` says what to learn from.
        out: folder of the study; ``None`` makes one below ``runs``.
        overwrite: let it replace another study in ``out``.
        resume: continue the study in ``out``; only its ``minutes`` may change.
        device: where networks run.
        console: where progress goes.
        propose: says what to try next; ``None`` is Optuna.
        train: runs a training.

    Raises:
        ConfigError: a setting makes no sense, or ``out`` holds another study.
        DataError: the data cannot be read, or holds nothing to measure on.
        MissingExtraError: Optuna is not installed.
    """
    if propose is None:
        require_optuna()
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"`minutes`: {minutes:g} is no time: give a number above 0, such as `minutes=60`")
    if resume:
        if out is None or vary or recipe or settings or overwrite:
            raise ConfigError("a study is continued as it was: `resume=True` with `out`, and at most other `minutes`")
        folder, study = Path(out), read_study(Path(out))
        study = study.model_copy(update={"minutes": minutes or study.minutes})
        base = read_config(folder / BASE)
    else:
        base, study = _new_study(minutes, vary, recipe, settings)
        assert base.data is not None
        folder = _folder(out, f"tune-{Path(base.data.path).resolve().stem}", overwrite)
    say = console or Console()
    try:
        with sole_use(folder):
            write_config(base, folder / BASE, "Settings that all runs of the study share.")
            write_study(study, folder)
            session = _Session(
                study, folder, Runner(train, folder / BASE, study.metric, device), resume or overwrite,
                propose or propose_by_optuna, say,
            )  # fmt: skip
            return session.play(base)
    except SingleshotError:
        if not resume and not overwrite and not _has_trials(folder):
            for name in (STUDY, BASE):
                (folder / name).unlink(missing_ok=True)
        raise
    finally:
        with suppress(OSError):
            folder.rmdir()  # if nothing was written


def _new_study(
    minutes: float | None,
    vary: Sequence[str] | None,
    recipe: str | os.PathLike[str] | None,
    settings: Mapping[str, Any] | None,
) -> tuple[TrainConfig, Study]:
    if minutes is None:
        raise ConfigError("`minutes`: how long may it take? All runs together, such as `minutes=60`")
    names = check_names(DEFAULT_VARY if vary is None else vary)
    base = _without_length(recipe, settings or {})
    if base.data is not None and base.data.val == "none":
        raise ConfigError("data.val: none, but settings are compared on held-out images: name a split by `val`")
    return base, Study(vary=names, minutes=minutes, metric=base.evaluation.metric, seed=base.seed)


def _without_length(recipe: str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> TrainConfig:
    """The settings that all runs share: how long each is, `tune` decides."""
    length = next((unit for unit in ("epochs", "steps", "minutes") if settings.get(unit) is not None), None)
    if length:
        raise ConfigError(
            f"{length}: how long each run is follows from the time of all, `minutes`; leave it out of the settings"
        )
    base = new_settings(recipe, settings)
    if base.schedule.milestones or base.start_step:
        raise ConfigError(
            "schedule.milestones, start_step: are places in a long run, and these are short: give "
            "`schedule.kind=cosine`, `schedule.milestones=[]` and `start_step=0`"
        )
    return base.updated({"epochs": None})


def _folder(out: str | os.PathLike[str] | None, name: str, overwrite: bool) -> Path:
    if out is not None and (Path(out) / STUDY).exists() and not overwrite:
        raise ConfigError(
            f"{out} already holds a study: continue it with `resume=True`, replace it with `overwrite=True`, or choose "
            "another `out`"
        )
    return new_folder(out, name, overwrite=overwrite)


def _has_trials(folder: Path) -> bool:
    return any(folder.glob("trial-*/*"))


class _Session:
    """A study while it runs. What has ended is in its file at once, so nothing but the current run is ever lost."""

    def __init__(
        self, study: Study, folder: Path, runner: Runner, overwrite: bool, propose: Propose, console: Console
    ) -> None:
        self.study = study
        self._folder = folder
        self._runner = runner
        self._overwrite = overwrite
        self._propose = propose
        self._console = console

    def play(self, base: TrainConfig) -> TuneResult:
        """All trials that the time allows, then the verdict."""
        self._say(introduce(self.study))
        try:
            self._defaults()
            while self._has_time() and not self._only_fails():
                self._search()
                if len(self.study.of("search")) >= TRIALS_BEFORE_REPEAT:
                    self._repeat()
            self._repeat()
            self._confirm()
        except _InterruptedError:
            self._say([f"stopped; {len(self.study.trials)} runs are kept. Continue with: singleshot tune --resume "
                       f"--out {self._folder}"])  # fmt: skip
            return TuneResult(self._folder, None, judge(self.study), is_interrupted=True)
        return self._conclude(base)

    def _defaults(self) -> None:
        if self.study.of("default"):
            return
        length = {"minutes": self.study.minutes / WHOLE_RUNS}
        trial = Trial(role="default", choices={}, seed=self.study.seed)
        ended, result = self._run(trial, length, {}, None, self._console)
        assert result is not None
        if ended.value is None:
            raise DataError("nothing could be measured: settings are compared on held-out images with objects")
        defaults = _defaults_of(result)
        ended = ended.model_copy(update={"choices": default_choices(self.study.vary, defaults)})
        self._keep(ended, defaults)

    def _has_time(self) -> bool:
        """Whether there is time for a trial beside the runs that must follow."""
        whole_s = self.study.of("default")[0].duration_s
        to_come = 1 + (not self.study.of("repeat"))
        return self.study.left_s >= (to_come + LEAST_OF_A_RUN) * whole_s

    def _only_fails(self) -> bool:
        """Whether something is wrong that other choices do not mend, such as a full disk."""
        latest = self.study.of("search")[-FAILURES:]
        return len(latest) == FAILURES and all(trial.state == "failed" for trial in latest)

    def _search(self) -> None:
        study, defaults = self.study, self._known
        ranges = {name: SETTINGS[name].choices(defaults) for name in study.vary}
        choices = self._propose(ranges, study.trials, study.seed)
        former = [trial.rungs for trial in study.trials]
        self._run_choices(Trial(role="search", choices=choices, seed=study.seed), former)

    def _repeat(self) -> None:
        if not self.study.of("repeat"):
            choices = default_choices(self.study.vary, self._known)
            self._run_choices(Trial(role="repeat", choices=choices, seed=self.study.seed + 1), None)

    def _confirm(self) -> None:
        best, usual = self.study.best, judge(self.study).default
        if best is None or best.value is None or usual is None or best.value <= usual or self.study.confirmed:
            return
        self._run_choices(Trial(role="confirm", choices=best.choices, seed=self.study.seed + 1), None)

    @property
    def _known(self) -> Defaults:
        assert self.study.defaults is not None
        return self.study.defaults

    def _run_choices(self, trial: Trial, former: Sequence[Sequence[float]] | None) -> None:
        changes = changes_of(trial.choices, self._known)
        quiet = Console(file=io.StringIO())  # its train.log has all
        ended, _ = self._run(trial, {"epochs": self._known.epochs}, changes, former, quiet)
        self._keep(ended, self._known)

    def _run(
        self,
        trial: Trial,
        length: Mapping[str, float],
        changes: Mapping[str, Any],
        former: Sequence[Sequence[float]] | None,
        console: Console,
    ) -> tuple[Trial, TrainResult | None]:
        folder = self._folder / f"trial-{len(self.study.trials):02d}"
        ended, result = self._runner.run(
            trial, folder, length, changes, former, overwrite=self._overwrite, console=console
        )
        if result is not None and result.ending == "interrupted":
            self._overwrite = True
            raise _InterruptedError
        return ended, result

    def _keep(self, trial: Trial, defaults: Defaults) -> None:
        trials = (*self.study.trials, trial)
        self.study = self.study.model_copy(update={"trials": trials, "defaults": defaults})
        write_study(self.study, self._folder)
        self._say([trial_line(len(trials) - 1, trial, defaults)])

    def _conclude(self, base: TrainConfig) -> TuneResult:
        verdict, best = judge(self.study), self.study.best
        changes = changes_of(best.choices, self._known) if best and verdict.is_better else {}
        path = self._folder / BEST
        write_config(base.updated(changes), path, "\n".join(result_lines(self.study, verdict)))
        self._say([*result_lines(self.study, verdict), f"settings  {path}"])
        self._say([f"train     singleshot train --recipe {path}"])
        return TuneResult(self._folder, path, verdict)

    def _say(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _InterruptedError(Exception):
    """Someone asked to stop."""


def _defaults_of(result: TrainResult) -> Defaults:
    """What the defaults came to, from the files of their run."""
    config = read_config(result.folder / "config.yaml")
    assert isinstance(config.batch_size, int)
    assert isinstance(config.optimizer.lr, float)
    _, rows = read_log(result.folder / "metrics.csv")
    return Defaults(
        lr=config.optimizer.lr,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        size_hw=read_spec(result.last).preprocess.size_hw,
        augment=next((name for name, known in PRESETS.items() if known == config.augment), OWN),
        epochs=max(float(row["epoch"]) for row in rows),
    )
