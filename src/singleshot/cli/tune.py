"""``singleshot tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from singleshot.cli.console import open_console, split_names
from singleshot.cli.train import INTERRUPTED, assignments


def tune(
    data: Annotated[str | None, typer.Argument(help="Labelled images, as for train.", show_default=False)] = None,
    minutes: Annotated[float | None, typer.Option(help="Time of all runs together.")] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="What to tune: lr, augment, batch_size (default: these), size; several by commas."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Architecture; default: that of the weights.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Where each run starts: coco (default), imagenet, a file.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Network input: 300, or HEIGHTxWIDTH.")] = None,
    train: Annotated[str | None, typer.Option(help="Split to learn from.")] = None,
    val: Annotated[str | None, typer.Option(help="Split to compare on.")] = None,
    classes: Annotated[list[str] | None, typer.Option(help="Only these classes: person,dog; repeatable.")] = None,
    recipe: Annotated[str | None, typer.Option(help="The defaults: a recipe's name, or a YAML file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; default: a new one below runs/.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the study in --out.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study in --out.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Seed of the first run; repeats take the next.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; repeatable.")
    ] = None,
) -> None:
    """Look for better settings than the defaults, by short trainings; says so where there are none.

    Examples:

    * `singleshot tune photos --minutes 60`
    * `singleshot tune photos --minutes 240 --vary lr,augment,size --weights imagenet --model ssd300_vgg16`
    * `singleshot tune --resume --out runs/tune-photos --minutes 120`
    * `singleshot train --recipe runs/tune-photos/best.yaml`
    """
    from singleshot.core.sizes import parse_size
    from singleshot.tuning.tune import tune as run

    options = {
        "data.path": data,
        "model": model,
        "weights": weights,
        "size_hw": None if size is None else list(parse_size(size)),
        "data.train": train,
        "data.val": val,
        "data.classes": split_names(classes),
        "seed": seed,
    }
    given = {key: value for key, value in options.items() if value is not None}
    result = run(
        minutes=minutes,
        vary=split_names(vary),
        recipe=recipe,
        settings=given | assignments(set_ or []),
        out=out,
        overwrite=overwrite,
        resume=resume,
        device=device,
        console=open_console(),
    )
    if result.is_interrupted:
        raise typer.Exit(INTERRUPTED)
