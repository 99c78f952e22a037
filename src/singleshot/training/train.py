"""``singleshot.train``: from a labelled folder to a detector and a report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from singleshot.core.settings import AnchorConfig
from singleshot.core.sizes import parse_size
from singleshot.core.transforms import Transform, steps_by_name
from singleshot.models.config import ModelSpec
from singleshot.runtime.device import choose_device
from singleshot.training.config import TrainConfig
from singleshot.training.loggers.guarded import require_loggers
from singleshot.training.logs import Observer
from singleshot.training.request import asked_settings, check_callbacks, check_transform, new_settings, registered
from singleshot.training.result import TrainResult
from singleshot.training.resume import check_number, resumed_settings, saved_settings
from singleshot.training.run_folder import existing_folder, new_folder, sole_use
from singleshot.training.session import run_session


def train(
    data: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | ModelSpec | Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    epochs: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    start_step: int | None = None,
    batch_size: int | Literal["auto"] | None = None,
    lr: float | Literal["auto"] | None = None,
    size: int | str | Sequence[int] | None = None,
    train: str | None = None,
    val: str | None = None,
    format: str | None = None,
    classes: Sequence[str] | None = None,
    lower_names: bool | None = None,
    decisions: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    recipe: str | os.PathLike[str] | None = None,
    resume: bool | int = False,
    anchors: Literal["auto"] | AnchorConfig | None = None,
    anchor_scale: float | None = None,
    augment: str | Mapping[str, Any] | None = None,
    transform: Transform | None = None,
    tile: int | str | None = None,
    overlap: float | None = None,
    freeze: Sequence[str] | None = None,
    finetune: bool | None = None,
    amp: str | None = None,
    device: str = "auto",
    workers: int | Literal["auto"] | None = None,
    seed: int | None = None,
    bad_data: Literal["skip", "error"] | None = None,
    log: str | Sequence[str] | None = None,
    callbacks: Sequence[Observer] = (),
    accumulate: int | None = None,
    batch_norm: Literal["train", "eval"] | None = None,
    batch_norm_momentum: float | None = None,
    keep_empty: bool | None = None,
    use_difficult: bool | None = None,
    repeat_threshold: float | None = None,
    channels_last: bool | None = None,
    compile: bool | None = None,
    log_every: int | None = None,
    also_log: Literal["mxnet"] | None = None,
    monitor: int | None = None,
    monitor_pattern: str | None = None,
    save_minutes: float | None = None,
    settings: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Train a detector on a labelled data set.

        result = singleshot.train("photos", minutes=20)
        detections = result.load().predict("new.jpg")

    Args:
        data: folder or file of the labelled images; needed unless the recipe names it or a run is resumed.
        model: architecture (``singleshot models``), a YAML file that describes a detector, such a description, or a
            `ModelSpec`, whose classes are replaced by the data's; ``None`` takes that of ``weights``.
        weights: starting point: ``coco`` or ``coco-v3`` (bundled), ``imagenet`` or ``imagenet:PATH`` (a classifier's
            file of PyTorch, MXNet or Caffe), a weights file, or ``none``; ``None`` is ``coco``, or what the recipe
            says.
        epochs, steps, minutes: length of the run; at most one.
        batch_size: images per forward pass; ``auto`` fits the memory.
        lr: learning rate; ``auto`` is the optimiser's usual one, scaled to the batch.
        size: network input: one side, ``"HEIGHTxWIDTH"``, or (height, width).
        train, val: splits to learn from and to be measured on; ``val="none"`` never measures. ``None`` takes the
            data's, or those of the recipe where the data is VOC's or COCO's.
        format: of the labels; ``None`` finds it by evidence.
        classes: the classes to learn, in this order; ``None`` takes the data's.
        lower_names: take class names in lower case, so that ``Person`` and ``person`` are one class.
        decisions: a file of ``singleshot browse``: objects and images to leave out, other classes.
        out: folder of the run; ``None`` makes one below ``runs``.
        overwrite: let the run replace another one in ``out``.
        recipe: name or path of a YAML file with any of `TrainConfig`'s settings.
        resume: continue the run in ``out`` (or the latest one) where it stopped, with its own settings; only its length
            may change. A number goes back to that numbered checkpoint (``settings={"checkpoints.every": 500}``).
        start_step: steps that ``weights`` have learnt elsewhere: the schedule and the count of steps begin there.
        anchors: default boxes in place of the model's; ``auto`` scales the model's to the training objects.
        anchor_scale: factor for the sizes of the model's default boxes.
        augment: a preset of random changes, or a mapping that changes one.
        transform: a step of your own, after all others, on each training input: ``(image, boxes_xyxy, class_ids)`` to
            the same three, or with a ``np.random.Generator`` as a fourth argument. A resumed run needs it again.
        tile: learn from tiles of so many pixels, too, and measure on them: a side or ``"HEIGHTxWIDTH"``.
        overlap: of neighbouring tiles, as a share of their side (.2).
        freeze: parts that stay as they are: prefixes, patterns or regular expressions.
        finetune: learn only the predictors, and what the starting point does not hold.
        amp: number format: ``auto``, ``fp32``, ``bf16``, ``fp16``.
        workers: processes that prepare images.
        seed: of everything random.
        bad_data: ``skip`` or ``error``.
        log: where numbers go besides ``metrics.csv``: ``tensorboard``, ``mlflow``, ``wandb``.
        callbacks: what hears of steps and evaluations, with the methods of `singleshot.training.logs.Observer`. What
            one raises ends the run.
        accumulate: forwards per optimiser step; the effective batch is ``batch_size * accumulate``.
        batch_norm: ``train`` updates statistics, ``eval`` keeps those of the starting point.
        batch_norm_momentum: share of a batch in the running statistics.
        keep_empty: train on images without objects as background.
        use_difficult: learn from objects marked difficult.
        repeat_threshold: show images of classes that are in fewer than this share of the images more often.
        channels_last: memory layout of the network.
        compile: use ``torch.compile``.
        log_every: optimiser steps between two rows of the log.
        also_log: ``mxnet`` logs the two losses that mxnet-ssd shows, too.
        monitor: steps between two rows of ``monitor.csv`` about weights and gradients.
        monitor_pattern: which of them, named as ``freeze`` names parts.
        save_minutes: time between two saves of the full training state.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        settings: nested settings by dotted key, such as ``{"optimizer.lr": 0.01}``.
        console: where progress goes; ``None`` is the terminal.

    Returns:
        The weights files and the numbers reached.

    Raises:
        ConfigError: a setting makes no sense.
        DataError: the data cannot be read or cannot teach.
        WeightsError: the starting point or the state cannot be read.
        NonFiniteLossError: the run went wrong; the message names the images.
    """
    changes = asked_settings(
        {
            "data.path": data, "model": model, "weights": weights, "epochs": epochs, "steps": steps, "minutes": minutes,
            "start_step": start_step, "monitor": monitor, "monitor_pattern": monitor_pattern,
            "batch_size": batch_size, "optimizer.lr": lr, "size_hw": None if size is None else list(parse_size(size)),
            "data.train": train, "data.val": val, "data.bad_data": bad_data, "data.format": format,
            "data.classes": classes, "data.lower_names": lower_names, "data.decisions": decisions, "anchors": anchors,
            "anchor_scale": anchor_scale, "augment": augment, "freeze": freeze, "finetune": finetune, "amp": amp,
            "workers": workers, "seed": seed, "log": log, "accumulate": accumulate,
            "batch_norm": batch_norm, "batch_norm_momentum": batch_norm_momentum, "keep_empty": keep_empty,
            "use_difficult": use_difficult, "repeat_threshold": repeat_threshold, "channels_last": channels_last,
            "tiling.tile": None if tile is None else list(parse_size(tile, "tile")), "tiling.overlap": overlap,
            "compile": compile, "log_every": log_every, "also_log": also_log,
            "save_minutes": save_minutes,
        },
        settings or {},
    )  # fmt: skip
    check_callbacks(callbacks)
    config, folder = _settings_and_folder(changes, out, recipe, resume, transform, overwrite=overwrite)
    try:
        steps_by_name(config.augment.transforms)
        require_loggers(config.log)
        with sole_use(folder):
            return run_session(
                config,
                folder,
                choose_device(device),
                console or Console(),
                resume=resume is not False,
                at=None if isinstance(resume, bool) else resume,
                callbacks=callbacks,
            )
    finally:
        with suppress(OSError):
            folder.rmdir()  # if nothing was written


def _settings_and_folder(
    changes: Mapping[str, Any],
    out: str | os.PathLike[str] | None,
    recipe: str | os.PathLike[str] | None,
    resume: bool | int,
    transform: Transform | None,
    *,
    overwrite: bool,
) -> tuple[TrainConfig, Path]:
    """Of a new run, whose folder is made, or of the one that goes on."""
    own = registered(transform)
    if resume is not False:
        folder = existing_folder(out)
        if not isinstance(resume, bool):
            check_number(folder, resume)
        config = resumed_settings(saved_settings(folder), changes, folder)
        check_transform(config, own, folder)
        return config, folder
    config = new_settings(recipe, changes)
    if own:
        config = config.updated({"augment.transforms": [*config.augment.transforms, own]})
    assert config.data is not None
    return config, new_folder(out, Path(config.data.path).resolve().stem, overwrite=overwrite)
