"""``singleshot.train``: from a labelled folder to a detector and a report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console

from singleshot.core.settings import AnchorConfig
from singleshot.core.sizes import parse_size
from singleshot.core.transforms import Transform
from singleshot.errors import ConfigError
from singleshot.models.config import ModelSpec
from singleshot.training.devices import check_handed_over, train_on_devices
from singleshot.training.logs import Observer
from singleshot.training.request import Request, asked_settings, check_callbacks
from singleshot.training.result import TrainResult
from singleshot.training.running import run_request
from singleshot.training.world import in_world


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
    devices: int | str | Sequence[int] | None = None,
    max_restarts: int = 0,
    workers: int | Literal["auto"] | None = None,
    seed: int | None = None,
    bad_data: Literal["skip", "error"] | None = None,
    log: str | Sequence[str] | None = None,
    callbacks: Sequence[Observer] = (),
    accumulate: int | None = None,
    batch_norm: Literal["train", "eval"] | None = None,
    batch_norm_momentum: float | None = None,
    sync_batch_norm: bool | Literal["auto"] | None = None,
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
            file of PyTorch, MXNet or Caffe), a weights file, or ``none``; ``None`` is ``auto``, or what the recipe
            says.
        epochs, steps, minutes: length of the run; at most one.
        batch_size: images per forward pass, of all devices together; ``auto`` fits the memory.
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
        sync_batch_norm: whether BatchNorm sees the images of all devices; ``auto``: where each has few.
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
        devices: how many learn together, or the numbers of the GPUs (``"0,2"``): a process is started for each. Under
            torchrun there is one already, and ``None`` takes what it says.
        max_restarts: how often these begin again, from the last save, after one of them was lost.
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
            "batch_norm": batch_norm, "batch_norm_momentum": batch_norm_momentum,
            "sync_batch_norm": sync_batch_norm, "keep_empty": keep_empty,
            "use_difficult": use_difficult, "repeat_threshold": repeat_threshold, "channels_last": channels_last,
            "tiling.tile": None if tile is None else list(parse_size(tile, "tile")), "tiling.overlap": overlap,
            "compile": compile, "log_every": log_every, "also_log": also_log,
            "save_minutes": save_minutes,
        },
        settings or {},
    )  # fmt: skip
    check_callbacks(callbacks)
    if max_restarts and devices is None and not in_world():
        raise ConfigError("`max_restarts`: what begins again is a process of `devices`: give `devices=1` as well")
    request = Request(
        changes,
        recipe=None if recipe is None else os.fspath(recipe),
        out=None if out is None else os.fspath(out),
        overwrite=overwrite,
        resume=resume,
        device=device,
        devices=devices if devices is None or isinstance(devices, (int, str)) else ",".join(map(str, devices)),
        max_restarts=max_restarts,
    )
    if devices is not None and not in_world():
        check_handed_over(transform, callbacks, console)
        return train_on_devices(request)
    return run_request(request, transform, callbacks, console)
