"""``singleshot anchors``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from singleshot.cli.console import open_console, shown
from singleshot.cli.shared_options import FormatOption

if TYPE_CHECKING:
    from singleshot.training.anchor_comparison import AnchorComparison


def anchors(
    data: Annotated[Path, typer.Argument(help="Labelled images: a folder, COCO .json, YOLO .yaml, .csv or .rec.")],
    model: Annotated[
        str,
        typer.Option(help="coco or coco-v3, a weights file, an architecture, or a .yaml that describes a detector."),
    ] = "coco-v3",
    split: Annotated[
        str | None, typer.Option(help="Split to fit to.", show_default="what training learns from")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Network input: 300, or HEIGHTxWIDTH.")] = None,
    format: FormatOption = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder for settings and picture.", show_default="a new one: anchors, ...")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace these files in --out.")] = False,
) -> None:
    """How well do default boxes fit the objects? Print recall by size and class, and fit them by k-means on IoU.

    Examples:

    * `singleshot anchors photos`
    * `singleshot anchors photos --model ssd300_vgg16 --size 512 --out anchors`

    Writes anchors.yaml, settings for `train --recipe`, and anchors.png. The number and the places of the boxes stay,
    so weights still fit.
    """
    from singleshot.prediction.output_folder import new_folder
    from singleshot.training.anchor_comparison import PICTURE, check_folder, compare_anchors

    if out is not None:
        check_folder(out, overwrite=overwrite)
    with open_console(stderr=True).status("Fitting default boxes ..."):
        result = compare_anchors(data, model, split=split, size=size, format=format)
    folder = out or new_folder(Path("anchors"))
    settings = result.save(folder, overwrite=overwrite)
    console = open_console()
    console.print(shown(result.headline), soft_wrap=True)
    console.print(_table(result))
    typer.echo(f"Picture: {shown(folder / PICTURE)}")
    command = f"singleshot train {quote(str(data))} --recipe {quote(str(settings))}"
    command += f" --format {format}" if format != "auto" else ""
    typer.echo(f"Train with them: {shown(command)}")


def _table(result: AnchorComparison) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("objects of", no_wrap=True)
    for title in ("objects", "recall", "fitted", "best IoU", "fitted"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in (result.overall, *result.by_size, *result.by_class):
        if row.objects:
            numbers = f"{row.before:.0%}", f"{row.after:.0%}", f"{row.iou_before:.2f}", f"{row.iou_after:.2f}"
            table.add_row(shown(row.group), f"{row.objects:,}", *numbers)
    return table
