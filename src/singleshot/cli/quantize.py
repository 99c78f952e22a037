"""``singleshot quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from singleshot.cli.console import open_console, print_note, shown
from singleshot.core.wording import counted


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A weights file, or a bundled name.")],
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Typical images: files, folders, globs.")],
    out: Annotated[
        Path | None, typer.Option(help="The int8 file.", show_default="beside the weights, where it is found")
    ] = None,
    backend: Annotated[str, typer.Option(help="Who will run it: openvino, onnx.")] = "openvino",
    images: Annotated[int, typer.Option(min=10, help="Images to calibrate on, at most.")] = 300,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into subfolders.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an int8 file that is there.")] = False,
) -> None:
    """Make a detector's int8 form, which CPUs run several times as fast, calibrated on your images (no labels needed).

    Examples:

    * `singleshot quantize runs/cells/best.safetensors cells/images`

    From then on `predict` uses it by itself. To see what it costs: `singleshot eval MODEL DATA --precision int8`, and
    the same without `--precision`, which is float32. Images that cannot be read are named and left out; the exit code
    is 1 when a folder that was asked for could not be looked into.
    """
    from singleshot.prediction.quantize import quantize as run

    console = open_console(stderr=True)
    with console.status("Quantising (minutes for large networks) ..."):
        done = run(
            model,
            data,
            out=out,
            backend=backend,
            images=images,
            recursive=recursive,
            overwrite=overwrite,
            note=lambda line: print_note(console, shown(line)),
        )
    size_mb = done.path.stat().st_size / 1e6
    typer.echo(f"{shown(done.path)}: {size_mb:.1f} MB, calibrated on {counted(done.images, 'image')}")
    if done.path.absolute() != done.beside_weights.absolute():
        typer.echo(f"It is used where it lies beside the weights: {shown(done.beside_weights)}")
    if done.missed:
        raise typer.Exit(1)
