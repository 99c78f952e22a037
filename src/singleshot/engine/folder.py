"""The folder of a run: its settings, log, weights and state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import nn

from singleshot.engine.checkpoint import Learner, RunState, save_checkpoint
from singleshot.errors import ConfigError
from singleshot.models.config import ModelSpec
from singleshot.weights.file import save_weights

RUNS = Path("runs")


class RunFolder:
    """Files of a run: ``config.yaml``, ``metrics.csv``, ``best.safetensors``, ``last.safetensors``, ``state.pt``.

    Args:
        path: the folder; made if it is missing.
        spec: the detector that learns; it goes into the weights files with the metrics reached.
    """

    def __init__(self, path: Path, spec: ModelSpec) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._spec = spec

    def save_state(self, learner: Learner, run: RunState) -> None:
        """Write ``state.pt``."""
        save_checkpoint(self.path / "state.pt", learner, run)

    def save_weights(self, name: Literal["best", "last"], network: nn.Module, metrics: Mapping[str, float]) -> None:
        """Write ``best.safetensors`` or ``last.safetensors``."""
        known = {key: value for key, value in metrics.items() if value == value}  # JSON has no NaN
        provenance = self._spec.provenance.model_copy(update={"metrics": known})
        spec = self._spec.model_copy(update={"provenance": provenance})
        save_weights(self.path / f"{name}.safetensors", spec, network.state_dict())


def new_folder(out: str | os.PathLike[str] | None, name: str) -> Path:
    """Where a new run goes: as asked for, else ``runs/NAME``, numbered when that is taken.

    Raises:
        ConfigError: a folder that was asked for holds a run.
    """
    if out is not None:
        if holds_run(Path(out)):
            raise ConfigError(f"{out} already holds a run: continue it with --resume, or choose another --out")
        return Path(out)
    candidates = (RUNS / (name if number == 1 else f"{name}-{number}") for number in range(1, 1_000_000))
    return next(path for path in candidates if not path.exists())


def existing_folder(out: str | os.PathLike[str] | None) -> Path:
    """The run to resume: as asked for, else the one saved last below ``runs``.

    Raises:
        ConfigError: there is none.
    """
    if out is not None:
        if not holds_run(Path(out)):
            raise ConfigError(
                f"{out} holds no run to resume: it needs config.yaml, last.safetensors and state.pt. A run that was "
                "killed before its first save begins anew: the same command without --resume"
            )
        return Path(out)
    runs = [path for path in RUNS.glob("*") if holds_run(path)]
    if not runs:
        raise ConfigError(f"no run to resume below {RUNS}/: name its folder with --out")
    return max(runs, key=lambda path: (path / "state.pt").stat().st_mtime)


def holds_run(path: Path) -> bool:
    """Whether a folder holds a run that can be resumed."""
    return all((path / name).is_file() for name in ("config.yaml", "last.safetensors", "state.pt"))
