"""``singleshot explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singleshot.cli.console import open_console, shown
from singleshot.core.wording import counted

if TYPE_CHECKING:
    from singleshot.report.explanation import Explanation


def explain(
    source: Annotated[
        Path, typer.Argument(metavar="PHOTO_OR_DATA", help="An image, or a labelled data set, of which one is taken.")
    ],
    model: Annotated[str, typer.Option(help="A weights file, or 'coco' or 'coco-v3' for a bundled detector.")] = "coco",
    image: Annotated[
        str | None, typer.Option(help="Which image of the data set, by its name.", show_default="a typical one")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the data set to look into.", show_default="everything")
    ] = None,
    score: Annotated[
        float | None, typer.Option(help="Least score of a candidate, 0..1.", show_default="the model's, mostly 0.3")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the pictures and the page.", show_default="a new one: explanation, ..."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace these files in --out.")] = False,
) -> None:
    """Draw how a detector works on an image: default boxes, matching and mining, from raw heads to boxes.

    Examples:

    * `singleshot explain street.jpg`
    * `singleshot explain VOCdevkit --split 2007_test --image 000001.jpg`
    * `singleshot explain cells --model runs/cells/best.safetensors --out cells-explained`

    Writes PNG pictures and explain.html. Which anchors learn which object, and which learn background, is drawn where
    there are labels.
    """
    from singleshot.prediction.output_folder import new_folder
    from singleshot.report.explanation import PAGE, check_explanation
    from singleshot.report.explanation import explain as run

    if out is not None:
        check_explanation(out, overwrite=overwrite, sources=[source])
    with open_console(stderr=True).status("Drawing ..."):
        result = run(source, model, image=image, split=split, score=score)
        folder = out or new_folder(Path("explanation"))
        result.save(folder, overwrite=overwrite)
    for line in _lines(result):
        typer.echo(line)
    typer.echo(f"Page: {shown(folder / PAGE)}")


def _lines(result: Explanation) -> list[str]:
    """What the pictures show, in numbers."""
    numbers = result.numbers
    lines = [f"{shown(result.title)}: {numbers['anchors']:,} default boxes"]
    if "objects" in numbers:
        lines.append(
            f"{counted(numbers['objects'], 'object')}, learnt by {counted(numbers['positives'], 'anchor')} "
            f"({numbers['forced']} forced); {counted(numbers['negatives'], 'negative')} mined of "
            f"{numbers['eligible']:,} eligible"
        )
    lines.append(
        f"{counted(numbers['candidates'], 'candidate')}, {counted(numbers['detections'], 'detection')} after NMS"
    )
    return lines
