"""``singleshot import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singleshot.cli.console import open_console

if TYPE_CHECKING:
    from singleshot.models.config import ModelSpec
    from singleshot.weights.importers import ImportReport
    from singleshot.weights.selfcheck import SelfCheck

# More names than this are counted instead of being listed.
LISTED_NAMES = 8


def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint of another system, or its folder.")],
    source: Annotated[str, typer.Option("--from", help="The system; auto finds out.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="The weights file to write.", show_default="FILE's name with .safetensors")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Text file with one class name per line, background left out.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Subtract from pixels of 0..255, e.g. 104,117,123, in the network's order.")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Multiply pixels with this after the mean.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every parameter and its origin.")] = False,
) -> None:
    """Turn a checkpoint of another system into a weights file of singleshot.

    Examples:

    * `singleshot import ssd300_vgg16_coco-b556d3b4.pth`
    * `singleshot import mobilenet_ssd/ --out mobilenet.safetensors --classes names.txt`
    * `singleshot import ssd_300-0240.params --from mxnet`

    Nothing inside a checkpoint is run. The result is read back, compared, and tried on an image of noise.
    """
    from singleshot.weights.file import save_weights
    from singleshot.weights.importers import read_foreign
    from singleshot.weights.selfcheck import check_saved

    names = None if classes is None else _read_names(classes)
    spec, state, report = read_foreign(path, source, names, None if mean is None else _read_mean(mean), scale)
    out = out or Path(f"{path.resolve().name.partition('.')[0]}.safetensors")
    save_weights(out, spec, state)
    _print_report(spec, report, check_saved(out, spec, state), verbose)


def _read_names(file: Path) -> list[str]:
    from singleshot.errors import ConfigError

    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--classes {file}: cannot be read as text: {error}") from error


def _read_mean(text: str) -> list[float]:
    from singleshot.errors import ConfigError

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3):
        raise ConfigError(f"--mean {text}: give one number, or three with commas, such as 104,117,123")
    return values * 3 if len(values) == 1 else values


def _print_report(spec: ModelSpec, report: ImportReport, check: SelfCheck, verbose: bool) -> None:
    from rich.table import Table

    console = open_console()
    table = Table(title=f"{report.source}: {spec.name}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    height, width = spec.preprocess.size_hw
    table.add_row("input", f"{width} x {height}")
    table.add_row("classes", f"{len(spec.class_names)}: {_some(spec.class_names)}")
    table.add_row("mapped", f"{len(report.mapped)} parameters")
    table.add_row("left over", _counted(report.left_over))
    table.add_row("missing", _counted(report.missing))
    for note in report.notes:
        table.add_row("note", note)
    low, high = check.logits
    table.add_row("checked", f"{check.anchors} anchors = rows of the heads; logits of noise {low:.2f}..{high:.2f}")
    table.add_row("", "the file reads back equal and gives identical outputs")
    console.print(table)
    if verbose:
        for ours, theirs in report.mapped:
            typer.echo(f"{ours} <- {theirs}")
    typer.echo(f"Wrote {check.file}. Try: singleshot predict photo.jpg --weights {check.file}")


def _counted(names: tuple[str, ...]) -> str:
    return f"{len(names)}: {_some(names)}" if names else "none"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:LISTED_NAMES]) + (", ..." if len(names) > LISTED_NAMES else "")
