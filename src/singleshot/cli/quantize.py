"""``singleshot quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from singleshot.cli.console import in_flags, open_console, shown
from singleshot.core.wording import counted


def quantize(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help="A weights file, or a bundled name.")],
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

    From then on `predict` uses it by itself. To see what it costs: `singleshot eval WEIGHTS DATA --precision int8`, and
    the same without `--precision`, which is float32. Images that cannot be read are named and left out; the exit code
    is 1 when a folder that was asked for could not be looked into.
    """
    from singleshot.core.files import check_output
    from singleshot.export.compiled import compiled_file
    from singleshot.export.int8_file import int8_path
    from singleshot.export.package import check_kind
    from singleshot.export.quantize import quantize as run
    from singleshot.prediction.sources import search_images
    from singleshot.weights.find import find_weights

    path, kind = find_weights(weights), check_kind(backend)
    target, found = out or int8_path(path, kind), search_images(data, recursive=recursive)
    check_output(target, overwrite=overwrite, sources=[path, *found.images])
    for line in (*found.missed, *found.notes):
        typer.echo(f"Note: {shown(in_flags(line))}", err=True)
    with open_console(stderr=True).status("Quantising (minutes for large networks) ..."):
        package = run(compiled_file(kind, path), found.images, images)
        package.save(target)
    size_mb = target.stat().st_size / 1e6
    used = counted(int(package.info.quantization["images"]), "image")
    typer.echo(f"{shown(target)}: {size_mb:.1f} MB, calibrated on {used}")
    if out is not None and out.absolute() != int8_path(path, kind).absolute():
        typer.echo(f"It is used where it lies beside the weights: {int8_path(path, kind)}")
    if found.missed:
        raise typer.Exit(1)
