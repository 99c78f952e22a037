"""``singleshot import``."""

from __future__ import annotations

import os
import secrets
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singleshot.cli.console import open_console, shown

if TYPE_CHECKING:
    from torch import Tensor

    from singleshot.interop.fill import ImportReport
    from singleshot.interop.selfcheck import SelfCheck
    from singleshot.models.config import ModelSpec

# More names than this are counted instead of being listed.
LISTED_NAMES = 8
KINDS = (
    ".pth", ".pt", ".pkl", ".bin", ".tar", ".ckpt", ".safetensors", ".params", ".caffemodel", ".prototxt", ".txt",
    ".pb", ".json",
)  # fmt: skip
"""Endings that are no part of a checkpoint's own name."""


def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint of another system, or its folder.")],
    source: Annotated[str, typer.Option("--from", help="The system; auto finds out.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="The weights file to write.", show_default="FILE's name with .safetensors")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")] = False,
    classes: Annotated[
        Path | None, typer.Option(help="Text file with one class name per line, background left out.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Subtract from pixels of 0..255, e.g. 104,117,123, in the network's order.")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Multiply pixels with this after the mean.")] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Network input, for MXNet's checkpoints, which do not say it: 300, or HEIGHTxWIDTH."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every parameter and its origin.")] = False,
) -> None:
    """Turn a checkpoint of another system into a weights file of singleshot.

    Examples:

    * `singleshot import ssd300_vgg16_coco-b556d3b4.pth`
    * `singleshot import mobilenet_ssd/ --out mobilenet.safetensors --classes names.txt`
    * `singleshot import ssd_resnet101_321-0240.params --size 321x321`

    Nothing inside a checkpoint is run. The result is read back, compared, and tried on an image of noise.
    """
    from singleshot.core.sizes import parse_size
    from singleshot.interop.read import read_foreign

    names = None if classes is None else _read_names(classes)
    pixels, size_hw = None if mean is None else _read_mean(mean), None if size is None else parse_size(size)
    out = _target(path, out, overwrite)
    spec, state, report = read_foreign(path, source, names, pixels, scale, size_hw)
    _print_report(spec, report, _save_checked(out, spec, state), out, verbose)


def default_name(path: Path) -> str:
    """Name of the weights file: the checkpoint's without its kind, ``-imported`` where that is a safetensors too."""
    name = path.resolve().name
    stem = name
    while (suffix := Path(stem).suffix) and suffix.lower() in KINDS and not path.is_dir():
        stem = stem.removesuffix(suffix)
    stem = stem.removesuffix("-symbol")
    return f"{stem}-imported.safetensors" if name.lower().endswith(".safetensors") else f"{stem}.safetensors"


def _target(path: Path, out: Path | None, overwrite: bool) -> Path:
    """The file to write, which is none of those that are read, and none that exists unless it may be replaced."""
    from singleshot.core.files import check_output
    from singleshot.errors import OutputError

    target = out or Path(default_name(path))
    folder = path if path.is_dir() else path.parent
    sources = [path, *(file for file in folder.iterdir() if file.suffix != ".safetensors")] if folder.is_dir() else []
    try:
        check_output(target, overwrite=True, sources=sources)
    except OutputError as error:
        raise OutputError(f"{error} with --out") from None
    if os.path.lexists(target) and not overwrite:
        raise OutputError(f"{target}: exists already: name another file with --out, or replace it with --overwrite")
    return target


def _save_checked(out: Path, spec: ModelSpec, state: dict[str, Tensor]) -> SelfCheck:
    """Write a weights file that is checked before it has its name."""
    from singleshot.core.files import put_in_place
    from singleshot.interop.selfcheck import check_saved
    from singleshot.weights.file import save_weights

    draft = out.with_name(f".{secrets.token_hex(8)}.safetensors")
    try:
        save_weights(draft, spec, state)
        check = check_saved(draft, spec, state, out)
        put_in_place(draft, out)
    finally:
        draft.unlink(missing_ok=True)
    return check


def _read_names(file: Path) -> list[str]:
    from singleshot.data.class_list import is_background, read_class_lines

    lines, problems = read_class_lines(file)
    for problem in problems:
        typer.echo(shown(f"{problem.where}: {problem.message}"), err=True)
    names = [line for line in lines if line]
    if names and is_background(names[0]):  # as pytorch-ssd writes its labels.txt
        typer.echo(shown(f"{file}: '{names[0]}' comes first and is no class here"), err=True)
        return names[1:]
    return names


def _read_mean(text: str) -> list[float]:
    from singleshot.errors import ConfigError

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3):
        raise ConfigError(f"--mean {text}: give one number, or three with commas, such as 104,117,123")
    return values * 3 if len(values) == 1 else values


def _print_report(spec: ModelSpec, report: ImportReport, check: SelfCheck, out: Path, verbose: bool) -> None:
    from rich.table import Table

    console = open_console()
    table = Table(title=shown(f"{report.source}: {spec.name}"), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    height, width = spec.preprocess.size_hw
    low, high = check.logits
    rows = [
        ("input", f"{height} x {width} (h x w){f': {check.doubt}' if check.doubt else ''}"),
        ("classes", f"{len(spec.class_names)}: {_some(spec.class_names)}"),
        ("mapped", f"{len(report.mapped)} parameters"),
        ("left over", _counted(report.left_over)),
        ("missing", _counted(report.missing)),
        *(("note", note) for note in report.notes),
        ("checked", f"{check.anchors:,} default boxes = rows of the heads; logits of noise {low:.2f}..{high:.2f}"),
        ("", "the file reads back equal and gives identical outputs"),
    ]
    for row in rows:
        table.add_row(*map(shown, row))
    console.print(table)
    if verbose:
        for ours, theirs in report.mapped:
            console.print(shown(f"{ours} <- {theirs}"), soft_wrap=True)
    typer.echo(f"Wrote {out}. Try: singleshot predict photo.jpg --model {shlex.quote(str(out))}")


def _counted(names: tuple[str, ...]) -> str:
    return f"{len(names)}: {_some(names)}" if names else "none"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:LISTED_NAMES]) + (", ..." if len(names) > LISTED_NAMES else "")
