"""The full state of a run in one file, so that a resumed run continues as if it had never stopped."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from singleshot.core.files import is_regular, write_atomically
from singleshot.errors import WeightsError
from singleshot.training.ema import Ema
from singleshot.weights.torch_pickle import DAMAGE

FORMAT = 1
# Behind the archive, where its readers do not look: a flipped bit between its files changes no checksum of theirs.
SEAL = b"singleshot-sha256:"
SEAL_BYTES = len(SEAL) + hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Best:
    """The evaluation that a run's best weights are of. The loop decides which; everyone else is told.

    Attributes:
        value: of the deciding metric.
        step: where it was; 0 where that is not known any more.
        metrics: all its numbers by name, without those that are not numbers.
    """

    value: float
    step: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class RunState:
    """What a run knows besides tensors.

    Attributes:
        step: optimiser steps made; also tells which batch comes next, since the order of batches is a function of the
            seed alone.
        elapsed_s: seconds of all sessions.
        next_evaluation: position (in the unit of the run's length) of the next evaluation.
        best: the best evaluation; ``None`` before the first one that counts.
        bar: the value that an evaluation must exceed to count as better; ``None`` before the first one that counts.
        highest: value of all that count; that of ``best`` may be lower by what is tolerated.
        stale: evaluations since it was set.
        evaluation_s: duration of the latest evaluation.
        evaluations_s: of all of them.
        first_step: steps that the starting weights had made elsewhere; they took none of ``elapsed_s``.
    """

    step: int = 0
    elapsed_s: float = 0.0
    next_evaluation: float = 0.0
    best: Best | None = None
    stale: int = 0
    evaluation_s: float = 0.0
    evaluations_s: float = 0.0
    first_step: int = 0
    bar: float | None = None
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class Learner:
    """Everything with tensors that changes while a run learns."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None = None
    scaler: torch.amp.GradScaler | None = None

    @property
    def deployable(self) -> nn.Module:
        """The network to evaluate and to save: the average where there is one."""
        return self.ema.network if self.ema else self.network


def save_checkpoint(path: Path, learner: Learner, run: RunState) -> None:
    """Write the state of a run; the old file is replaced only when the new one is complete."""
    buffer = io.BytesIO()
    torch.save(_snapshot(learner, run), buffer)
    content = buffer.getvalue()
    write_atomically(path, content + SEAL + hashlib.sha256(content).digest())


def load_checkpoint(path: Path, learner: Learner) -> RunState:
    """Put a saved state back into a learner that was built from the same settings, and restore random generators.

    Raises:
        WeightsError: the file is missing, damaged, of another version, or of another network or optimiser.
    """
    content = _intact(path)
    try:
        # The learner's tensors decide the device; weights_only keeps foreign code out.
        saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise WeightsError(f"cannot read the training state {path}: {error}; {_instead(path)}") from error
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise WeightsError(f"{path} is not a training state of format {FORMAT}; {_instead(path)}")
    try:
        learner.network.load_state_dict(saved["network"])
        learner.optimizer.load_state_dict(saved["optimizer"])
        if learner.ema:
            learner.ema.network.load_state_dict(saved["ema"])
            learner.ema.updates = saved["ema_updates"]
        if learner.scaler:
            learner.scaler.load_state_dict(saved["scaler"])
        run = _run_state(saved["run"])
        _restore_generators(saved["generators"])
    except DAMAGE as error:
        raise WeightsError(f"{path} belongs to a run with other settings: {error}") from error
    return run


def _run_state(saved: dict[str, Any]) -> RunState:
    """Of states of before the numbers were kept, too: these are in the weights file."""
    step, best = saved.pop("best_step", 0), saved.pop("best")
    best = {"value": best, "step": step} if isinstance(best, float) else best
    run = RunState(**saved, best=Best(**best) if best else None)
    if "bar" not in saved and run.best:
        run.bar = run.best.value
    if "highest" not in saved and run.best:
        run.highest = run.best.value
    return run


def _intact(path: Path) -> bytes:
    """The archive, if its digest (in files of before there was one, its checksums) says that no bit has changed."""
    try:
        content = path.read_bytes() if is_regular(path) else b""
        archive, seal = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
        if seal.startswith(SEAL):
            if seal == SEAL + hashlib.sha256(archive).digest():
                return archive
        elif zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip() is None:
            return content
    except OSError as error:
        raise WeightsError(f"cannot read the training state {path}: {error.strerror}") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError):
        pass
    raise WeightsError(f"{path} is missing or damaged, not a training state; {_instead(path)}")


def _instead(path: Path) -> str:
    return f"start a new run from its weights: `weights={str(path.parent / 'last.safetensors')!r}`"


def _snapshot(learner: Learner, run: RunState) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "run": asdict(run),
        "network": learner.network.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "ema": learner.ema.network.state_dict() if learner.ema else None,
        "ema_updates": learner.ema.updates if learner.ema else 0,
        "scaler": learner.scaler.state_dict() if learner.scaler else None,
        "generators": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    }


def _restore_generators(saved: dict[str, Any]) -> None:
    torch.set_rng_state(saved["cpu"])
    if saved["cuda"] and torch.cuda.is_available() and torch.cuda.device_count() == len(saved["cuda"]):
        torch.cuda.set_rng_state_all(saved["cuda"])
