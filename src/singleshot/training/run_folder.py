"""The folder of a run: its settings, log, weights and state. One process works in it at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from torch import nn

from singleshot.errors import ConfigError
from singleshot.models.config import ModelSpec
from singleshot.training.checkpoint import Learner, RunState, save_checkpoint
from singleshot.weights.file import save_weights

try:
    import fcntl
except ImportError:  # Windows: nothing tells of another process
    fcntl = None  # type: ignore[assignment]

RUNS = Path("runs")
RESULTS = ("best.safetensors", "last.safetensors", "state.pt", "report.html")
BESIDES = ("config.yaml", "metrics.csv", "data.json", "train.log", "monitor.csv")
NUMBERED = re.compile(r"checkpoint-(\d{6,})\.(safetensors|pt)")
LOCK = ".lock"
UNSAVED = ".unsaved"
"""Is there until a run has saved all that it takes to resume: one that is killed before then begins anew."""
HEAD = "Settings of this run; 'auto' is replaced by what it meant."
"""First line of a run's ``config.yaml``."""

_held: set[Path] = set()  # a process may lock a file of its own twice


class RunFolder:
    """Files of a run: ``config.yaml``, ``metrics.csv``, ``best.safetensors``, ``last.safetensors``, ``state.pt``.

    Args:
        path: the folder; made if it is missing.
        spec: the detector that learns; it goes into the weights files with the metrics reached.
        keep: numbered checkpoints that stay; ``None`` keeps all.
    """

    def __init__(self, path: Path, spec: ModelSpec, keep: int | None = None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._keep = keep
        self.path = path
        self._spec = spec

    def save_state(self, learner: Learner, run: RunState) -> None:
        """Write ``state.pt``."""
        save_checkpoint(self.path / "state.pt", learner, run)
        (self.path / UNSAVED).unlink(missing_ok=True)

    def save_numbered(self, learner: Learner, run: RunState) -> None:
        """Write ``checkpoint-000500.safetensors`` and its state ``.pt``; drop earlier ones beyond those to keep."""
        self._save_weights(f"checkpoint-{run.step:06d}", learner.deployable, {})
        save_checkpoint(state_path(self.path, run.step), learner, run)
        earlier = [number for number in numbered(self.path) if number < run.step]
        dropped = earlier[: max(len(earlier) + 1 - self._keep, 0)] if self._keep else []
        for number in dropped:
            for suffix in (".pt", ".safetensors"):
                state_path(self.path, number).with_suffix(suffix).unlink(missing_ok=True)

    def save_weights(self, name: Literal["best", "last"], network: nn.Module, metrics: Mapping[str, float]) -> None:
        """Write ``best.safetensors`` or ``last.safetensors``."""
        self._save_weights(name, network, metrics)

    def _save_weights(self, name: str, network: nn.Module, metrics: Mapping[str, float]) -> None:
        known = {key: value for key, value in metrics.items() if value == value}  # JSON has no NaN
        provenance = self._spec.provenance.model_copy(update={"metrics": known})
        spec = self._spec.model_copy(update={"provenance": provenance})
        save_weights(self.path / f"{name}.safetensors", spec, network.state_dict())


def numbered(path: Path) -> list[int]:
    """Steps of which a folder holds a whole numbered checkpoint, in order."""
    names = {file.name for file in path.iterdir()}
    steps = {int(found[1]) for name in names if (found := NUMBERED.fullmatch(name)) and found[2] == "pt"}
    return sorted(step for step in steps if state_path(path, step).with_suffix(".safetensors").name in names)


def state_path(path: Path, step: int | None) -> Path:
    """The state of a run: the latest, or that of a numbered checkpoint."""
    return path / ("state.pt" if step is None else f"checkpoint-{step:06d}.pt")


def _numbered_files(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir() if NUMBERED.fullmatch(file.name)) if path.is_dir() else []


def new_folder(out: str | os.PathLike[str] | None, name: str, *, overwrite: bool = False) -> Path:
    """Make the folder of a new run: as asked for, else ``runs/NAME``, numbered when that is taken.

    Of runs that start together each gets a folder of its own.

    Args:
        out: the folder asked for.
        name: of a folder below ``RUNS``.
        overwrite: whether the results of another run in ``out`` may be lost.

    Raises:
        ConfigError: a folder that was asked for holds a run, or settings that no run wrote.
    """
    if out is not None:
        path = Path(out)
        _refuse_results(path, overwrite)
        path.mkdir(parents=True, exist_ok=True)
        return path
    RUNS.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1_000_000):
        path = RUNS / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise ConfigError(f"{RUNS}/ holds too many runs of '{name}': name a folder by `out`")


def _refuse_results(path: Path, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file: `out` names a folder")
    if overwrite:
        return
    if holds_run(path):
        raise ConfigError(
            f"{path} already holds a run: continue it with `resume=True`, replace it with `overwrite=True`, or "
            "choose another `out`"
        )
    # A run that was killed before its first save left its settings and a log, and maybe weights, which nobody needs.
    if _is_ours(path / "config.yaml"):
        kept: tuple[str, ...] = () if os.path.lexists(path / UNSAVED) else RESULTS
    else:
        kept = (*RESULTS, *BESIDES)
    found = next((path / name for name in (*kept, *_numbered_files(path)) if os.path.lexists(path / name)), None)
    if found is not None:
        raise ConfigError(f"{found} is there already: choose another `out`, or replace it with `overwrite=True`")


def _is_ours(settings: Path) -> bool:
    with suppress(OSError), settings.open("rb") as file:
        return file.read(2 + len(HEAD)) == f"# {HEAD}".encode()
    return False


def clear_results(path: Path) -> None:
    """Remove what a former run left, before another writes there: two halves make no whole."""
    for name in (*RESULTS, *BESIDES, UNSAVED, *_numbered_files(path)):
        (path / name).unlink(missing_ok=True)


@contextmanager
def sole_use(path: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder; the system lets them in again when this one ends, however it ends.

    Raises:
        ConfigError: another run is there. Names its process.
    """
    key = path.resolve()
    if key in _held:
        raise ConfigError(f"{path} is in use by another run of this process ({os.getpid()}): choose another `out`")
    lock = _lock(path) if fcntl else None
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        if lock is not None:
            with suppress(OSError):
                (path / LOCK).unlink()
            os.close(lock)


def _lock(path: Path) -> int:
    """An open, locked file in a folder; it holds the number of this process."""
    while True:
        try:
            file = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}; choose another `out`") from error
        try:
            # A record lock, not flock: processes that prepare batches would inherit that one.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_ino == os.stat(path / LOCK).st_ino:
                os.ftruncate(file, 0)
                os.pwrite(file, str(os.getpid()).encode(), 0)
                return file
        except FileNotFoundError:
            pass  # the run before removed it between our opening and locking
        except OSError as error:
            owner = os.pread(file, 20, 0).decode("ascii", "replace") or "unknown"
            os.close(file)
            raise ConfigError(
                f"{path} is in use by another run (process {owner}): wait for it, or choose another `out`"
            ) from error
        os.close(file)


def existing_folder(out: str | os.PathLike[str] | None) -> Path:
    """The run to resume: as asked for, else the one saved last below ``runs``.

    Raises:
        ConfigError: there is none.
    """
    if out is not None:
        if not holds_run(Path(out)):
            raise ConfigError(
                f"{out} holds no run to resume: it needs config.yaml, last.safetensors and state.pt. A run that was "
                "killed before its first save begins anew: the same call without `resume=True`"
            )
        return Path(out)
    runs = [path for path in RUNS.glob("*") if holds_run(path)]
    if not runs:
        raise ConfigError(f"no run to resume below {RUNS}/: name its folder by `out`")
    return max(runs, key=lambda path: (path / "state.pt").stat().st_mtime)


def holds_run(path: Path) -> bool:
    """Whether a folder holds a run that can be resumed."""
    return all((path / name).is_file() for name in ("config.yaml", "last.safetensors", "state.pt"))
