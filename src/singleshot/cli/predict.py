"""``singleshot predict``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.status import Status

    from singleshot.predict.job import JobSummary
    from singleshot.predict.runner import Result

# More images than this are counted by a progress bar instead of being listed one by one.
LISTED_IMAGES = 20

STAGE_NAMES = {
    "decode": "read and decode",
    "preprocess": "preprocess",
    "network": "network",
    "postprocess": "postprocess",
    "write": "write",
    "wait": "writer waiting",
}


def predict(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Image files, folders, globs.")],
    weights: Annotated[str, typer.Option(help="Bundled weights by name, or a weights file.")] = "coco",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    score: Annotated[float, typer.Option(help="Least confidence of a detection, 0..1.")] = 0.3,
    save: Annotated[str, typer.Option(help="What to write: images, json, csv, coco, crops (with commas).")] = (
        "images,json"
    ),
    batch: Annotated[int, typer.Option(help="Images that the network sees at once; more than 1 pays on a GPU.")] = 1,
    backend: Annotated[str, typer.Option(help="What runs the network: auto, torch, openvino, onnx.")] = "auto",
    precision: Annotated[str, typer.Option(help="In which numbers: auto, fp32, bf16, int8.")] = "auto",
    device: Annotated[str, typer.Option(help="Where: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network with torch first.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into subfolders.")] = False,
    nms_iou: Annotated[
        float | None,
        typer.Option(help="Overlap above which the weaker of two boxes of a class goes.", show_default="the model's"),
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(help="Most detections per image.", show_default="the model's")
    ] = None,
    max_pixels: Annotated[int, typer.Option(help="Larger images are refused.")] = 178_956_970,
) -> None:
    """Detect objects in images.

    Examples:

    * `singleshot predict street.jpg`
    * `singleshot predict photos/ --recursive --score 0.5 --save images,json,csv`
    * `singleshot predict "photos/*.jpg" --weights runs/train/best.safetensors --out found`

    An image that cannot be read ends nothing: it is listed at the end, and the exit code is 1.
    Exit code 2 means that nothing was done (a wrong option, path or weights file).
    """
    from singleshot.backends.device import check_device
    from singleshot.backends.select import check_backend
    from singleshot.detections import check_score
    from singleshot.detector import check_batch, load
    from singleshot.images import quiet_decoders
    from singleshot.predict.job import run_job
    from singleshot.predict.sinks import check_kinds, open_sinks
    from singleshot.predict.sources import find_images

    kinds = [kind.strip() for kind in save.split(",") if kind.strip()]
    check_kinds(kinds)
    check_score(score, "--score")
    check_batch(batch)
    images = find_images(sources, recursive=recursive, exclude=out)
    detector = load(weights)
    backend_name, precision_name = check_backend(backend, precision)
    with _status("Getting the network ready (a conversion is made once, and kept) ..."):
        predictor = detector.predictor(
            score,
            nms_iou=nms_iou,
            max_detections=max_detections,
            max_pixels=max_pixels,
            backend=backend_name,
            precision=precision_name,
            device=check_device(device),
            compile=compile,
            images=len(images),
        )
    results = predictor.stream(images, min(batch, len(images)))
    with (
        quiet_decoders(),
        _progress(len(images)) as on_result,
        open_sinks(kinds, out, images, detector.class_names, detector.spec.class_ids) as sinks,
    ):
        summary = run_job(results, sinks, predictor.times, on_result)
    _print_summary(summary, predictor.backend.name, out if kinds else None)
    if summary.failures:
        raise typer.Exit(1)


def _status(message: str) -> Status:
    """A spinner while something takes seconds."""
    from rich.console import Console

    return Console(stderr=True).status(message)


@contextmanager
def _progress(count: int) -> Iterator[Callable[[Result], None]]:
    """A bar for many images, a line each for few."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from singleshot.predict.runner import Failure

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    console = Console()
    silent = count <= LISTED_IMAGES or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as bar:
        task = bar.add_task("", total=count)

        def on_result(result: Result) -> None:
            bar.advance(task)
            if count > LISTED_IMAGES:
                return
            if isinstance(result, Failure):
                line = f"{result.path}: failed"
            else:
                line = f"{result.detections.path}: {_counted(Counter(result.detections.names)) or 'nothing found'}"
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield on_result


def _print_times(summary: JobSummary) -> None:
    """Where the time went. Stages overlap, so that their seconds may add up to more than the wall clock."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("stage", "seconds", "ms per image", "share of the run"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, seconds in summary.times.seconds.items():
        share = 100 * seconds / summary.wall_s if summary.wall_s else 0.0
        per_image = 1000 * seconds / max(summary.images, 1)
        table.add_row(STAGE_NAMES[stage], f"{seconds:.2f}", f"{per_image:.2f}", f"{share:.0f} %")
    Console().print(table, highlight=False)


def _counted(objects: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in objects.most_common())


def _print_summary(summary: JobSummary, backend: str, out: Path | None) -> None:
    typer.echo(f"{summary.images:,} images, {summary.objects.total():,} objects in {summary.time_line()}, {backend}")
    _print_times(summary)
    if summary.images > LISTED_IMAGES and summary.objects:
        typer.echo(f"Found: {_counted(summary.objects)}")
    if out is not None:
        typer.echo(f"Results: {out}")
    if summary.failures:
        typer.secho(f"{len(summary.failures):,} could not be read:", fg=typer.colors.RED, err=True)
        for failure in summary.failures:
            typer.echo(f"  {failure.error}", err=True)
