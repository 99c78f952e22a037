"""``singleshot train``."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand

from singleshot.cli.console import open_console, split_names
from singleshot.cli.data import DecisionsOption, LowerNamesOption

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
    data: Annotated[
        str | None,
        typer.Argument(
            help="Labelled images: a VOC or YOLO folder, a COCO .json, a YOLO .yaml or a .csv.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Architecture, or a .yaml that describes a detector; default: that of the weights."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Where to start: coco (default), imagenet, imagenet:FILE, a weights file, none."),
    ] = None,
    basenet: Annotated[
        Path | None,
        typer.Option(help="A classifier (.pth, .params, .caffemodel) for the backbone: --weights imagenet:FILE."),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Length: times that the data is seen (default 50).")] = None,
    steps: Annotated[int | None, typer.Option(help="Length in optimiser steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Length in minutes, evaluations included.")] = None,
    batch_size: Annotated[
        str | None, typer.Option("--batch-size", "--batch", help="Images per step, or auto (default).")
    ] = None,
    lr: Annotated[str | None, typer.Option(help="Learning rate, or auto (default).")] = None,
    size: Annotated[str | None, typer.Option(help="Network input: 300, or HEIGHTxWIDTH.")] = None,
    train: Annotated[
        str | None, typer.Option(help="Split to learn from; join several by +. Default: the data's, or the recipe's.")
    ] = None,
    val: Annotated[str | None, typer.Option(help="Split to measure on, or none.")] = None,
    classes: Annotated[
        list[str] | None, typer.Option(help="Only these classes, in this order: person,dog; repeatable.")
    ] = None,
    lower_names: LowerNamesOption = False,
    decisions: DecisionsOption = None,
    format: Annotated[str | None, typer.Option("--format", help="Format of the labels; default: by evidence.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: a new one below runs/.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    recipe: Annotated[str | None, typer.Option(help="A recipe's name, or a YAML file of settings.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in --out, or the latest; --resume 500 from its checkpoint of step 500."
        ),
    ] = False,
    resume_step: Annotated[int | None, typer.Option(hidden=True)] = None,
    start_step: Annotated[
        int | None,
        typer.Option("--start-step", "--start-iter", help="Steps that the weights have learnt elsewhere."),
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(help="Default boxes: auto scales the model's to the training objects.")
    ] = None,
    anchor_scale: Annotated[
        float | None, typer.Option(help="Factor for the sizes of the default boxes, such as 0.5 for small objects.")
    ] = None,
    augment: Annotated[
        str | None, typer.Option(help="Random changes: ssd, ssd_pytorch, mxnet_ssd, ssdlite, light, none.")
    ] = None,
    tile: Annotated[
        str | None,
        typer.Option(help="Learn from tiles, too, for small objects: their side, or HEIGHTxWIDTH, in pixels."),
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Of neighbouring tiles, as a share of their side (0.2).")
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            help="Part that stays as it is: backbone, a regular expression, none (default: auto); repeatable."
        ),
    ] = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Learn only the predictors, and what the weights do not hold.")
    ] = False,
    amp: Annotated[str | None, typer.Option(help="Number format: auto (default), fp32, bf16, fp16.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    workers: Annotated[str | None, typer.Option(help="Processes that prepare images, or auto (default).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    bad_data: Annotated[str | None, typer.Option(help="Bad records: skip (default) or error.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network with torch first.")] = False,
    log: Annotated[
        list[str] | None,
        typer.Option(help="Send numbers elsewhere, too: tensorboard, mlflow, wandb; several by commas."),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="The same as --log tensorboard.")] = False,
    monitor: Annotated[
        int | None, typer.Option(help="Write statistics of weights and gradients every so many steps.")
    ] = None,
    monitor_pattern: Annotated[
        str | None, typer.Option("--monitor-pattern", "--pattern", help="Which of them, as --freeze names parts.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; repeatable.")
    ] = None,
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

    result = run(
        data,
        model,
        _starting_point(weights, basenet),
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
        workers=_number_or_text(workers),
        seed=seed,
        bad_data=cast(Any, bad_data),
        compile=compile or None,
        log=[*(split_names(log) or []), *(["tensorboard"] if tensorboard else [])] or None,
        settings=assignments(set_ or []),
        console=open_console(),
    )
    if result.ending == "interrupted":
        raise typer.Exit(INTERRUPTED)


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
