"""``singleshot train``."""

from __future__ import annotations

import signal
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import typer
from typer.core import TyperCommand

from singleshot.cli import train_options as options
from singleshot.cli.console import open_console, split_names
from singleshot.cli.shared_options import DecisionsOption, LowerNamesOption
from singleshot.errors import SingleshotError

# What shells report of a command that Ctrl-C ended (128 + SIGINT): a script does not go on with half a training.
INTERRUPTED = 130


class Command(TyperCommand):
    """``--resume`` with or without a number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``--resume 500`` is ``--resume --resume-step 500``: a flag of click takes no value."""
        for place, (word, number) in enumerate(pairwise(args)):
            if word == "--resume" and number.isdecimal():
                args = [*args[:place], word, "--resume-step", number, *args[place + 2 :]]
                break
        return list(super().parse_args(ctx, args))


def train(
    data: options.Data = None,
    model: options.Model = None,
    weights: options.Weights = None,
    basenet: options.Basenet = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    minutes: options.Minutes = None,
    batch_size: options.BatchSize = None,
    lr: options.Lr = None,
    size: options.Size = None,
    train: options.Train = None,
    val: options.Val = None,
    classes: options.Classes = None,
    lower_names: LowerNamesOption = False,
    decisions: DecisionsOption = None,
    format: options.Format = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    recipe: options.Recipe = None,
    resume: options.Resume = False,
    resume_step: options.ResumeStep = None,
    start_step: options.StartStep = None,
    anchors: options.Anchors = None,
    anchor_scale: options.AnchorScale = None,
    augment: options.Augment = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    freeze: options.Freeze = None,
    finetune: options.Finetune = False,
    amp: options.Amp = None,
    device: options.Device = "auto",
    devices: options.Devices = None,
    max_restarts: options.MaxRestarts = 0,
    workers: options.Workers = None,
    seed: options.Seed = None,
    bad_data: options.BadData = None,
    compile: options.Compile = False,
    log: options.Log = None,
    tensorboard: options.Tensorboard = False,
    monitor: options.Monitor = None,
    monitor_pattern: options.MonitorPattern = None,
    set_: options.Set = None,
) -> None:
    """Train a detector on labelled images; by default from the bundled COCO detector.

    Examples:

    * `singleshot train photos --minutes 20`
    * `singleshot train VOCdevkit --recipe ssd300_voc0712 --weights imagenet`
    * `singleshot train data.yaml --weights runs/photos/best.safetensors --epochs 10 --set optimizer.lr=1e-4`
    * `singleshot train photos --model detector.yaml --weights imagenet`
    * `singleshot train --resume --out runs/photos`
    * `singleshot train --resume 500 --out runs/photos`
    """
    from singleshot.training.train import train as run
    from singleshot.training.world import StoppedError

    start, settings = _starting_point(weights, basenet), assignments(set_ or [])
    if devices is not None:
        devices, device = _on_devices(devices, device, max_restarts)
    try:
        result = run(
            data,
            model,
            start,
            epochs=epochs,
            steps=steps,
            minutes=minutes,
            batch_size=cast(Any, batch_size),
            lr=_number_or_text(lr),
            size=size,
            train=train,
            val=val,
            format=cast(Any, format),
            classes=split_names(classes),
            lower_names=lower_names or None,
            decisions=decisions,
            out=out,
            overwrite=overwrite,
            recipe=recipe,
            resume=resume if resume_step is None else resume_step,
            start_step=start_step,
            monitor=monitor,
            monitor_pattern=monitor_pattern,
            anchors=cast(Any, anchors),
            anchor_scale=anchor_scale,
            augment=augment,
            tile=tile,
            overlap=overlap,
            freeze=freeze,
            finetune=finetune or None,
            amp=amp,
            device=device,
            devices=devices,
            max_restarts=max_restarts,
            workers=_number_or_text(workers),
            seed=seed,
            bad_data=cast(Any, bad_data),
            compile=compile or None,
            log=[*(split_names(log) or []), *(["tensorboard"] if tensorboard else [])] or None,
            settings=settings,
            console=open_console(),
        )
    except StoppedError as error:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the agent ends what is left; nothing is to be said any more
        raise typer.Exit(1) from error
    if result.ending == "interrupted":
        raise typer.Exit(INTERRUPTED)


def _on_devices(devices: str, device: str, max_restarts: int) -> tuple[str | None, str]:
    """Run this command line once more for each device, and end as they do.

    Returns:
        In one of these, and where there is but one device: what ``devices`` and ``device`` are there.
    """
    from singleshot.training.launch import launch, own_command, parse_devices
    from singleshot.training.world import in_world

    if in_world():
        return devices, device
    chosen = parse_devices(devices, device)
    if len(chosen) == 1 and not max_restarts:
        return None, str(chosen[0])
    ended = launch(own_command(), len(chosen), max_restarts)
    if ended.reason:
        raise SingleshotError(ended.reason)
    raise typer.Exit(ended.code)


def _starting_point(weights: str | None, basenet: Path | None) -> str | None:
    if basenet is None:
        return weights
    if weights is not None:
        raise typer.BadParameter(
            "says where the backbone starts, and so does --weights: keep one", param_hint="--basenet"
        )
    return f"imagenet:{basenet}"


def _number_or_text(text: str | None) -> Any:
    """``8`` and ``1e-3`` are numbers; what is neither, such as ``auto``, is left to the settings to judge."""
    for kind in (int, float):
        with suppress(ValueError, TypeError):
            return kind(text)  # type: ignore[arg-type]
    return text


def assignments(texts: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` pairs; values are read as YAML."""
    import yaml

    from singleshot.core.yaml_files import parse_yaml

    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"'{text}' must be KEY=VALUE, such as optimizer.lr=0.01", param_hint="--set")
        try:
            pairs[key.strip()] = parse_yaml(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"'{text}': the value is no YAML: {error}", param_hint="--set") from error
    return pairs
