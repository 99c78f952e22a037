"""``singleshot.train``: from a labelled folder to a detector and a report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel
from rich.console import Console

from singleshot.core.memory import keep_freed_memory
from singleshot.core.settings import AnchorConfig
from singleshot.core.wording import counted
from singleshot.data.splitting import MIN_HELD_OUT
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, SingleshotError
from singleshot.models.fast_conv.small_maps import single_norms
from singleshot.models.network import Network
from singleshot.report.page import Section
from singleshot.runtime.device import choose_device
from singleshot.training.build import Evaluation, build_trainer, resolve
from singleshot.training.checkpoint import RunState, load_checkpoint
from singleshot.training.checks import check_samples
from singleshot.training.config import TrainConfig
from singleshot.training.fingerprint import check_classes, compare_fingerprint, fingerprint, keep_fingerprint
from singleshot.training.loader import TrainLoader, explaining_workers
from singleshot.training.logs import CsvLog, Observer, TensorBoardLog
from singleshot.training.loop import Ending
from singleshot.training.narration import conclude, describe_run_data, introduce, write_report
from singleshot.training.optimizer import freeze_parts
from singleshot.training.progress import ProgressBar
from singleshot.training.recipes import find_recipe, read_config, write_config
from singleshot.training.run_folder import HEAD, RunFolder, clear_results, existing_folder, new_folder, sole_use
from singleshot.training.splits import open_splits
from singleshot.training.start import Start, build_start, resume_start
from singleshot.weights.file import read_spec

LAST_SETTING = "reference"
"""Stands at the end of every ``config.yaml`` of ours: without it the file is cut short."""

# So few held-out objects choose by chance.
FEW_OBJECTS = 100

PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}

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
    lr: float | Literal["auto"] | None = None,
    size: int | str | Sequence[int] | None = None,
    train: str | None = None,
    val: str | None = None,
    format: str | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    recipe: str | os.PathLike[str] | None = None,
    resume: bool = False,
    anchors: Literal["auto"] | AnchorConfig | None = None,
    anchor_scale: float | None = None,
    augment: str | Mapping[str, Any] | None = None,
    freeze: Sequence[str] | None = None,
    amp: str | None = None,
    device: str = "auto",
    workers: int | Literal["auto"] | None = None,
    seed: int | None = None,
    bad_data: Literal["skip", "error"] | None = None,
    tensorboard: bool | None = None,
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
        lr: learning rate; ``auto`` is the optimiser's usual one, scaled to the batch.
        size: network input: one side, ``"HEIGHTxWIDTH"``, or (height, width).
        train, val: splits to learn from and to be measured on; ``val="none"`` never measures.
        format: of the labels; ``None`` finds it by evidence.
        out: folder of the run; ``None`` makes one below ``runs``.
        overwrite: let the run replace another one in ``out``.
        recipe: name or path of a YAML file with any of `TrainConfig`'s settings.
        resume: continue the run in ``out`` (or the latest one) where it stopped, with its own settings; only its length
            may change.
        anchors: default boxes in place of the model's; ``auto`` scales the model's to the training objects.
        anchor_scale: factor for the sizes of the model's default boxes.
        augment: a preset of random changes, or a mapping that changes one.
        freeze: parts that stay as they are.
        amp: number format: ``auto``, ``fp32``, ``bf16``, ``fp16``.
        workers: processes that prepare images.
        seed: of everything random.
        bad_data: ``skip`` or ``error``.
        tensorboard: write TensorBoard events, too.
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
    options: dict[str, Any] = {
        "data.path": data, "model": model, "weights": weights, "epochs": epochs, "steps": steps, "minutes": minutes,
        "batch": batch, "optimizer.lr": lr, "size_hw": None if size is None else parse_size(size), "data.train": train,
        "data.val": val, "data.bad_data": bad_data, "data.format": format, "anchors": anchors,
        "anchor_scale": anchor_scale, "augment": augment, "freeze": freeze, "amp": amp, "workers": workers,
        "seed": seed, "tensorboard": tensorboard, **(settings or {}),
    }  # fmt: skip
    changes = {key: _plain(value) for key, value in options.items() if value is not None}
    console = console or Console()
    if resume:
        folder = existing_folder(out)
        config = _resumed(_saved_settings(folder), changes, folder)
    else:
        config = (read_config(find_recipe(str(recipe))) if recipe else TrainConfig()).updated(changes)
        if config.data is None:
            raise ConfigError("data.path: what is there to learn from? Give a folder of labelled images")
        folder = new_folder(out, Path(config.data.path).resolve().stem, overwrite=overwrite)
    try:
        with sole_use(folder), _memory_advice():
            return _run(config, folder, choose_device(device), console, resume)
    finally:
        with suppress(OSError):
            folder.rmdir()  # if nothing was written


def parse_size(size: int | str | Sequence[int]) -> list[int]:
    """``300``, ``"300x480"`` or (300, 480) as [height, width].

    Raises:
        ConfigError: it is none of these.
    """
    parts = str(size).lower().split("x") if isinstance(size, (int, str)) else [str(part) for part in size]
    if len(parts) not in (1, 2) or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise ConfigError(f"size: {size!r} is no size: give one side, or HEIGHTxWIDTH")
    return [int(parts[0]), int(parts[-1])]


def _plain(value: Any) -> Any:
    """Values as YAML has them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _saved_settings(folder: Path) -> TrainConfig:
    """The settings of a run to be resumed.

    Raises:
        ConfigError: the file is damaged: what it lacks would silently be something else.
    """
    path = folder / "config.yaml"
    instead = (
        f"Restore it, or start a new run from the weights: singleshot train DATA --weights "
        f"{folder / 'last.safetensors'} --out ANOTHER"
    )
    try:
        config = read_config(path)
    except ConfigError as error:
        raise ConfigError(f"{error}\n{instead}") from error
    if config.data is None or LAST_SETTING not in config.model_fields_set:
        raise ConfigError(f"{path} is empty or cut short. {instead}")
    return config


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
    if resume:
        check_classes(read_spec(folder / "last.safetensors").class_names, train_set.class_map.names, folder)
    if not config.keep_empty:
        train_set = train_set.without_empty()
    warnings = check_samples(train_set.samples, train_set.class_map, config.keep_empty)
    if device.type == "cpu":
        keep_freed_memory()
    start = resume_start(folder) if resume else build_start(config, train_set.class_map, train_set.samples)
    frozen = freeze_parts(start.network, config.freeze)
    asked, config = config, resolve(config, start, len(train_set), device)
    evaluation = Evaluation(start.spec, val_set, config) if val_set is not None else None
    warnings += _measuring(evaluation) + _standing_still(config, start)
    data = fingerprint(train_set, val_set)
    if resume:
        warnings += compare_fingerprint(folder, data)
    console.print(introduce(asked, config, device, start, frozen, train_set, val_set, warnings), soft_wrap=True)
    run_folder = RunFolder(folder, start.spec)
    trainer = build_trainer(config, start, train_set, run_folder, device, evaluation)
    if resume:
        trainer.run = load_checkpoint(folder / "state.pt", trainer.learner)
        console.print(f"continuing {folder} at step {trainer.run.step:,}", **PLAIN)
    else:
        clear_results(folder)
        keep_fingerprint(folder, data)
    write_config(config, folder / "config.yaml", HEAD)
    trainer.say = lambda text: console.print(text, **PLAIN)
    trainer.observers = _observers(config, folder, trainer.run, console)
    trainer.observers += [evaluation] if evaluation else []
    try:
        with explaining_workers(config.workers):
            ending = trainer.fit()
    finally:
        for observer in trainer.observers:
            observer.close()
    result = _result(folder, ending, trainer.run)
    if ending != "interrupted":
        assert isinstance(trainer.batches, TrainLoader)
        sections = describe_run_data(train_set, val_set, trainer.batches)
        result = replace(result, report=_report(result, config, evaluation, start.network, sections, console))
    console.print(conclude(result, config, evaluation), soft_wrap=True)
    return result


def _measuring(evaluation: Evaluation | None) -> list[str]:
    """What the numbers of the held-out images will be worth, before the first step."""
    if evaluation is None:
        return ["nothing is held out: no weights are called best, and nothing tells how good they are"]
    if not evaluation.objects:
        return ["no held-out image has an object: no weights are called best, and nothing ends early"]
    if evaluation.objects < FEW_OBJECTS and evaluation.images >= MIN_HELD_OUT:  # of fewer images `remarks` speaks
        few = counted(evaluation.objects, "object")
        return [f"{few} to measure on are few: differences between numbers are mostly chance"]
    return []


def _standing_still(config: TrainConfig, start: Start) -> list[str]:
    """Which BatchNorm layers one image cannot teach."""
    assert isinstance(config.batch, int)
    norms = single_norms(start.network, start.spec.preprocess.size_hw, config.batch)
    if not norms or config.batch_norm == "eval":
        return []
    return [
        f"batch 1: {len(norms)} BatchNorm layers see one number per channel, which has no variance; they keep the "
        "statistics of the starting point. --batch 2 would teach them"
    ]


def _observers(config: TrainConfig, folder: Path, run: RunState, console: Console) -> list[Observer]:
    log = CsvLog(folder / "metrics.csv", run.step)
    if log.damage:
        console.print(f"warning: {log.damage}", **PLAIN)
    observers: list[Observer] = [log, ProgressBar(console, config.evaluation.metric)]
    if config.tensorboard:
        observers.append(TensorBoardLog(folder / "tensorboard", run.step))
    return observers


def _result(folder: Path, ending: Ending, run: RunState) -> TrainResult:
    """What was reached; a resumed run finds the numbers of its best weights in their file."""
    best, last = folder / "best.safetensors", folder / "last.safetensors"
    metrics = read_spec(best).provenance.metrics if best.is_file() else {}
    return TrainResult(folder, ending, best if best.is_file() else last, last, metrics, run.step, run.elapsed_s)


def _report(
    result: TrainResult,
    config: TrainConfig,
    evaluation: Evaluation | None,
    network: Network,
    data: list[Section],
    console: Console,
) -> Path | None:
    """Write ``report.html`` about ``result.best``; where it cannot be written, say why. The weights are safe by now."""
    try:
        best = evaluation.best if evaluation else None
        if evaluation and best is None and result.best.name == "best.safetensors":
            console.print("measuring the best weights, which are of a former session", **PLAIN)
            best = evaluation.of_file(result.best, network)
        return write_report(result.folder, config, result.metrics, best, data)
    except (SingleshotError, OSError) as error:
        console.print(f"no report: {error}", **PLAIN)
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
