"""``singleshot export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from singleshot.cli.console import open_console, print_note, shown


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A weights file, or a bundled name.")],
    format: Annotated[
        str, typer.Option("--format", help="onnx, openvino, torchscript, torch, executorch, litert or coreml.")
    ] = "onnx",
    level: Annotated[
        str | None, typer.Option(help="raw, decoded or end2end.", show_default="the most that the format holds")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file.", show_default="beside the weights")] = None,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Take pictures of any size (end2end).")] = False,
    layout: Annotated[
        str | None, typer.Option(help="Of the pictures: nhwc or nchw.", show_default="nhwc for pictures")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the weights: fp32, fp16, int8.", show_default="the format's usual one")
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(help="Least score of a detection (end2end).", show_default="the model's, mostly 0.3"),
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option(help="Pictures to verify on: a file, folder or glob; repeatable.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Compare the file with the detector.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write a detector as a file that runs without singleshot, and see that it finds the same.

    Examples:

    * `singleshot export runs/cells/best.safetensors --dynamic --images cells`

    * `singleshot export coco --format openvino --precision fp32 --out street.xml`

    * `singleshot export coco --format torchscript --level raw`

    The file is compared with the detector on pictures before it is moved into place; where they differ by more than the
    precision of the weights explains, nothing is written and the exit code is 2. `predict`, `eval` and `benchmark` take
    ONNX, OpenVINO, TorchScript, ExecuTorch and LiteRT files as `--model`.
    """
    from singleshot.detector import load

    console = open_console(stderr=True)
    with console.status("Exporting ..."):
        done = load(model).export(
            out,
            format=format,
            level=level,
            dynamic=dynamic,
            layout=layout,
            precision=precision,
            score=score,
            verify=verify,
            images=images or None,
            overwrite=overwrite,
            note=lambda line: print_note(console, shown(line)),
        )
    parts = [part for file in done.files for part in (file, *file.rglob("*")) if part.is_file()]
    size_mb = sum(part.stat().st_size for part in parts) / 1e6
    if done.verification:
        typer.echo(f"Verified on {done.verification}")
    typer.echo(f"{shown(done.path)}: {size_mb:.1f} MB, {done.info.level}, {done.info.precision}")
