"""Going on with a run: its settings as they were, its state, and which of its evaluations is the best."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from singleshot.core.setting_errors import SHORT
from singleshot.core.wording import listed
from singleshot.errors import ConfigError
from singleshot.training.checkpoint import Best, Learner, RunState, load_checkpoint
from singleshot.training.config import TrainConfig
from singleshot.training.recipes import read_config
from singleshot.training.run_folder import numbered, state_path
from singleshot.weights.file import read_spec

LAST_SETTING = "reference"
"""Stands at the end of every ``config.yaml`` of ours: without it the file is cut short."""

# What a resumed run may change: the rest would make it another run.
RESUMABLE = {
    "epochs",
    "steps",
    "minutes",
    "workers",
    "log_every",
    "also_log",
    "save_minutes",
    "log",
    "data.path",
    "data.decisions",
    "monitor",
    "monitor_pattern",
    "checkpoints.every",
    "checkpoints.keep",
    "evaluation.patience",
    "evaluation.min_delta",
    "evaluation.tolerance",
}


def saved_settings(folder: Path) -> TrainConfig:
    """The settings of a run to be resumed.

    Raises:
        ConfigError: the file is damaged: what it lacks would silently be something else.
    """
    path = folder / "config.yaml"
    last = str(folder / "last.safetensors")
    instead = f"Restore it, or start a new run from its weights: `weights={last!r}` and another `out`"
    try:
        config = read_config(path)
    except ConfigError as error:
        raise ConfigError(f"{error}\n{instead}") from error
    if config.data is None or LAST_SETTING not in config.model_fields_set:
        raise ConfigError(f"{path} is empty or cut short. {instead}")
    return config


def resumed_settings(config: TrainConfig, changes: Mapping[str, Any], folder: Path) -> TrainConfig:
    """The settings of a run that goes on.

    Args:
        config: as saved.
        changes: what was asked for now, by dotted key.
        folder: of the run.

    Raises:
        ConfigError: a change would make it another run.
    """
    before = config.model_dump(mode="json")
    for key, value in changes.items():
        if key not in RESUMABLE:
            old: Any = before
            for part in key.split("."):
                old = old.get(part) if isinstance(old, dict) else None
            _refuse_difference(key, old, value, folder)
    return config.updated({key: value for key, value in changes.items() if key in RESUMABLE})


def _refuse_difference(key: str, old: Any, new: Any, folder: Path) -> None:
    """Refuse a setting that is not the run's; of a described detector, its first part that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for part in dict.fromkeys([*old, *new]):
            _refuse_difference(f"{key}.{part}", old.get(part), new.get(part), folder)
    elif old != new:
        raise ConfigError(
            f"{key}: the run in {folder} has {SHORT.repr(old)}, not {SHORT.repr(new)}; a resumed run keeps its "
            "settings. Leave the option out, or start a new run from its `weights`"
        )


def check_number(folder: Path, step: int) -> None:
    """Refuse to go back to a step that no checkpoint is of.

    Raises:
        ConfigError: names those that there are.
    """
    known = numbered(folder)
    if step not in known:
        there = f"there are {listed([str(number) for number in known])}" if known else "none has a number"
        raise ConfigError(
            f"`resume={step}`: {folder} has no checkpoint {step}; {there}. `resume=True` continues from the last save"
        )


def load_run(folder: Path, learner: Learner, metric: str, step: int | None = None) -> RunState:
    """The state of a run, put back into its learner.

    Args:
        folder: of the run.
        learner: built from the run's settings; changed in place.
        metric: the deciding one.
        step: of a numbered checkpoint to go back to; ``None`` takes the last save.

    Raises:
        WeightsError: the state or the best weights cannot be read.
    """
    run = load_checkpoint(state_path(folder, step), learner)
    run.best = _best_kept(run.best, folder / "best.safetensors", metric)
    if run.best is None:  # the weights are gone, and the next ones are the best
        run.highest = None
    elif run.highest is None or run.best.value > run.highest:  # of a later evaluation than the state
        run.highest = run.best.value
    return run


def _best_kept(best: Best | None, path: Path, metric: str) -> Best | None:
    """The evaluation that the best weights are of.

    The weights are written before the state: a run that was killed in between has weights of a later evaluation.
    """
    if not path.is_file():
        return None
    metrics = read_spec(path).provenance.metrics
    if best and (best.metrics == metrics or metric not in metrics):
        return best
    if metric not in metrics:
        return None
    return Best(metrics[metric], best.step if best and best.value == metrics[metric] else 0, metrics)
