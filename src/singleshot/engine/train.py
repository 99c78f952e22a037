"""``singleshot.train``: from a labelled folder to a detector and a report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from singleshot.allocator import keep_freed_memory
from singleshot.backends.device import choose_device
from singleshot.detector import Detector, load
from singleshot.engine.assemble import Evaluation, build_trainer, resolve
from singleshot.engine.checkpoint import RunState, load_checkpoint
from singleshot.engine.checks import check_samples
from singleshot.engine.config import TrainConfig, find_recipe, read_config, write_config
from singleshot.engine.folder import RunFolder, existing_folder, new_folder
from singleshot.engine.loader import TrainLoader
from singleshot.engine.logs import CsvLog, Observer, TensorBoardLog
from singleshot.engine.optimizer import freeze_parts
from singleshot.engine.progress import ProgressBar
from singleshot.engine.splits import open_splits
from singleshot.engine.start import build_start, resume_start
from singleshot.engine.story import conclude, describe_run_data, introduce, write_report
from singleshot.engine.trainer import Ending
from singleshot.errors import ConfigError, MissingExtraError, SingleshotError
from singleshot.report.page import Section
from singleshot.weights.file import read_spec

# What a resumed run may change: the rest would make it another run.
RESUMABLE = {"epochs", "steps", "minutes", "workers", "log_every", "save_minutes", "tensorboard", "data.path"}


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
    """

    folder: Path
    ending: Ending
    best: Path
    last: Path
    metrics: dict[str, float]
    steps: int
    duration_s: float
    report: Path | None = None

    def load(self) -> Detector:
        """The trained detector, ready to predict."""
        return load(self.best)


def train(
    data: str | os.PathLike[str] | None = None,
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    epochs: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int | Literal["auto"] | None = None,
    out: str | os.PathLike[str] | None = None,
    recipe: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Train a detector on a labelled data set.

        result = singleshot.train("photos", minutes=20)
        detections = result.load().predict("new.jpg")

    Args:
        data: folder or file of the labelled images; needed unless the recipe names it or a run is resumed.
        model: architecture (``singleshot models``); ``None`` takes that of ``weights``.
        weights: starting point: ``coco`` (bundled), ``imagenet`` or ``imagenet:PATH``, a weights file, or ``none``;
            ``None`` is ``coco``, or what the recipe says.
        epochs, steps, minutes: length of the run; at most one.
        batch: images per forward pass; ``auto`` fits the memory.
        out: folder of the run; ``None`` makes one below ``runs``.
        recipe: name or path of a YAML file with any of `TrainConfig`'s settings.
        resume: continue the run in ``out`` (or the latest one) where it stopped, with its own settings; only its length
            may change.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        settings: further settings by dotted key, such as ``{"optimizer.lr": 0.01}``.
        console: where progress goes; ``None`` is the terminal.

    Returns:
        The weights files and the numbers reached.

    Raises:
        ConfigError: a setting makes no sense.
        DataError: the data cannot be read or cannot teach.
        WeightsError: the starting point or the state cannot be read.
        NonFiniteLossError: the run went wrong; the message names the images.
    """
    options: dict[str, Any] = {"data.path": data, "model": model, "weights": weights, "batch": batch}
    options |= {"epochs": epochs, "steps": steps, "minutes": minutes, **(settings or {})}
    changes = {k: str(v) if isinstance(v, os.PathLike) else v for k, v in options.items() if v is not None}
    console = console or Console()
    if resume:
        folder = existing_folder(out)
        config = _resumed(read_config(folder / "config.yaml"), changes, folder)
    else:
        config = (read_config(find_recipe(str(recipe))) if recipe else TrainConfig()).updated(changes)
        if config.data is None:
            raise ConfigError("data.path: what is there to learn from? Give a folder of labelled images")
        folder = new_folder(out, Path(config.data.path).resolve().stem)
    with _memory_advice():
        return _run(config, folder, choose_device(device), console, resume)


def _resumed(config: TrainConfig, changes: dict[str, Any], folder: Path) -> TrainConfig:
    """The settings of a run that goes on."""
    before = config.model_dump(mode="json")
    for key, value in changes.items():
        old: Any = before
        for part in key.split("."):
            old = old.get(part) if isinstance(old, dict) else None
        if key not in RESUMABLE and old != value:
            raise ConfigError(
                f"{key}: the run in {folder} has {old!r}, not {value!r}; a resumed run keeps its settings. Leave the "
                "option out, or start a new run from its weights with --weights"
            )
    return config.updated({key: value for key, value in changes.items() if key in RESUMABLE})


def _run(config: TrainConfig, folder: Path, device: torch.device, console: Console, resume: bool) -> TrainResult:
    """Build everything, train, report."""
    assert config.data is not None
    train_set, val_set = open_splits(config.data)
    if not config.keep_empty:
        train_set = train_set.without_empty()
    warnings = check_samples(train_set.samples, train_set.class_map, config.keep_empty)
    if device.type == "cpu":
        keep_freed_memory()
    start = resume_start(folder) if resume else build_start(config, train_set.class_map)
    frozen = freeze_parts(start.network, config.freeze)
    asked, config = config, resolve(config, start, len(train_set), device)
    console.print(introduce(asked, config, device, start, frozen, train_set, val_set, warnings), soft_wrap=True)
    run_folder = RunFolder(folder, start.spec)
    write_config(config, folder / "config.yaml", "Settings of this run; 'auto' is replaced by what it meant.")
    evaluation = Evaluation(start.spec, val_set, config) if val_set else None
    trainer = build_trainer(config, start, train_set, run_folder, device, evaluation)
    if resume:
        trainer.run = load_checkpoint(folder / "state.pt", trainer.learner)
        console.print(
            f"continuing {folder} at step {trainer.run.step:,}", highlight=False, markup=False, soft_wrap=True
        )
    trainer.observers = _observers(config, folder, trainer.run, console)
    try:
        ending = trainer.fit()
    finally:
        for observer in trainer.observers:
            observer.close()
    result = _result(folder, ending, trainer.run, evaluation)
    if ending != "interrupted":
        assert isinstance(trainer.batches, TrainLoader)
        data = describe_run_data(train_set, val_set, trainer.batches)
        result = replace(result, report=_report(result, config, evaluation, data, console))
    console.print(conclude(result, config), soft_wrap=True)
    return result


def _observers(config: TrainConfig, folder: Path, run: RunState, console: Console) -> list[Observer]:
    observers: list[Observer] = [
        CsvLog(folder / "metrics.csv", run.step),
        ProgressBar(console, config.evaluation.metric),
    ]
    if config.tensorboard:
        observers.append(TensorBoardLog(folder / "tensorboard", run.step))
    return observers


def _result(folder: Path, ending: Ending, run: RunState, evaluation: Evaluation | None) -> TrainResult:
    """What was reached; a resumed run finds the numbers of its best weights in their file."""
    best, last = folder / "best.safetensors", folder / "last.safetensors"
    metrics = read_spec(best).provenance.metrics if best.is_file() else {}
    return TrainResult(folder, ending, best if best.is_file() else last, last, metrics, run.step, run.elapsed_s)


def _report(
    result: TrainResult, config: TrainConfig, evaluation: Evaluation | None, data: list[Section], console: Console
) -> Path | None:
    """Write ``report.html``; without the packages for it, say so."""
    try:
        return write_report(result.folder, config, result.metrics, evaluation.best if evaluation else None, data)
    except MissingExtraError as error:
        console.print(f"no report: {error}", highlight=False, markup=False, soft_wrap=True)
        return None


@contextmanager
def _memory_advice() -> Iterator[None]:
    """Say what to do when the memory is full."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise SingleshotError(
            f"out of memory ({str(error).splitlines()[0] if str(error) else 'no details'}). Use a smaller --batch and "
            "keep the effective one with --set accumulate=2, or amp: bf16, or a smaller --size"
        ) from error
