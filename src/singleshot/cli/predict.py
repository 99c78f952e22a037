"""``singleshot predict``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singleshot.cli.console import discard_output, in_flags, open_console, shown
from singleshot.core.wording import counted

if TYPE_CHECKING:
    from rich.status import Status

    from singleshot.prediction.frames import Result
    from singleshot.prediction.job import JobSummary

# More images than this are counted by a progress bar instead of being listed one by one, and have a table of times.
LISTED_IMAGES = 20
# Of a long list of errors, what the terminal shows; detections.json has the failed images, all of them.
LISTED_ERRORS = 20

STAGE_NAMES = {
    "decode": "read and decode",
    "preprocess": "preprocess",
    "network": "network",
    "postprocess": "postprocess",
    "write": "write",
    "wait": "waiting for results",
}


def predict(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Image files, folders, globs.")],
    model: Annotated[
        str, typer.Option("--model", "--weights", help="A weights file, or 'coco' for the bundled detector.")
    ] = "coco",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results.", show_default="a new one: predictions, predictions-2, ..."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is in --out; an earlier run's results are removed.")
    ] = False,
    score: Annotated[float, typer.Option(help="Least confidence of a detection, 0..1.")] = 0.3,
    save: Annotated[
        str, typer.Option(help="What to write: images, json, jsonl, csv, text, coco, voc-results, crops (with commas).")
    ] = "images,json",
    classes: Annotated[
        list[str] | None, typer.Option(help="Only these classes, by name: person,dog.", show_default="all")
    ] = None,
    agnostic: Annotated[
        bool, typer.Option("--agnostic", help="Of overlapping boxes only the surest stays, whatever their classes.")
    ] = False,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", "--batch", help="Images that the network sees at once; more than 1 pays on a GPU."
        ),
    ] = 1,
    backend: Annotated[str, typer.Option(help="What runs the network: auto, torch, openvino, onnx.")] = "auto",
    precision: Annotated[str, typer.Option(help="In which numbers: auto, fp32, bf16, int8.")] = "auto",
    device: Annotated[str, typer.Option(help="Where: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network with torch first.")] = False,
    split: Annotated[
        str | None, typer.Option(help="Of SOURCE, a data set: the images of this split; 'all' for everything.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into subfolders.")] = False,
    size: Annotated[
        str | None,
        typer.Option(help="Network input: 300, or HEIGHTxWIDTH; a conversion is not kept.", show_default="the model's"),
    ] = None,
    nms_iou: Annotated[
        float | None,
        typer.Option(help="Overlap above which the weaker of two boxes of a class goes.", show_default="the model's"),
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(help="Most detections per image.", show_default="the model's")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Candidates of a class that enter NMS.", show_default="the model's")
    ] = None,
    clip: Annotated[
        bool,
        typer.Option("--clip/--no-clip", help="Let boxes end at the picture, or leave them as the network has them."),
    ] = True,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Names and scores in pictures.")] = True,
    line_width: Annotated[
        int | None, typer.Option(help="Of boxes in pictures, in pixels.", show_default="by the picture's size")
    ] = None,
    times: Annotated[
        bool | None, typer.Option("--times/--no-times", help="Say where the time went.", show_default="of many images")
    ] = None,
    max_pixels: Annotated[int, typer.Option(help="Larger images are refused.")] = 178_956_970,
) -> None:
    """Detect objects in images.

    Examples:

    * `singleshot predict street.jpg`
    * `singleshot predict photos/ --recursive --score 0.5 --save images,json,csv`
    * `singleshot predict "photos/*.jpg" --model runs/train/best.safetensors --out found`
    * `singleshot predict photos/ --classes person,dog --agnostic`
    * `singleshot predict VOCdevkit --split 2012_test --save voc-results --score 0.01`

    An image that cannot be read, or whose results cannot be written, ends nothing: it is listed at the end, and the
    exit code is 1. Exit code 2 means that nothing was done (a wrong option, path or weights file). Ctrl-C keeps what
    was found until then.
    """
    from singleshot.cli.signals import interrupt_code
    from singleshot.core.sizes import parse_batch_size
    from singleshot.detector import load
    from singleshot.prediction.job import Output, detect_and_save, find_images_of_job
    from singleshot.prediction.settings import check_score

    check_score(score)
    parse_batch_size(batch_size)
    kinds = [kind.strip() for kind in save.split(",") if kind.strip()]
    output = Output(
        kinds=kinds, folder=out, overwrite=overwrite, labels=labels, line_width=line_width, split=split or ""
    )
    found = find_images_of_job(sources, output, recursive=recursive, split=split)
    detector = load(model) if size is None else load(model).resized(size)
    with _status("Getting the network ready (a conversion is made once, and kept) ..."):
        predictor = detector.predictor(
            score,
            nms_iou=nms_iou,
            max_detections=max_detections,
            agnostic=agnostic,
            top_k=top_k,
            classes=_classes(classes, detector.class_names),
            clip=clip,
            max_pixels=max_pixels,
            backend=backend,
            precision=precision,
            device=device,
            compile=compile,
            images=len(found.images),
        )
    _print_notes((*found.missed, *found.notes))
    notes: list[str] = []
    with _progress(len(found.images)) as on_result:
        summary = detect_and_save(predictor, found.images, output, batch_size, on_result, notes.append)
    told = _tell(summary, predictor.backend.name, len(found.images), times)
    _print_notes(notes)
    _print_problems(summary, found.missed)
    if summary.interruption:
        raise typer.Exit(interrupt_code(summary.interruption))
    if summary.failures or summary.problems or found.missed or not told:
        raise typer.Exit(1)


def _print_notes(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(f"Note: {shown(in_flags(line))}", err=True)


def _classes(options: Sequence[str] | None, class_names: Sequence[str]) -> list[str | int] | None:
    """Names, or ids that are no names, from ``person,dog``; a name may hold a comma."""
    from singleshot.errors import ConfigError

    if not options:
        return None
    words = [
        word
        for option in options
        for word in ([option] if option in class_names else (part.strip() for part in option.split(",")))
        if word
    ]
    if not words:
        raise ConfigError("--classes names no class (an unset variable?): leave it out for all classes")
    return [int(word) if word.isdecimal() and word not in class_names else word for word in words]


def _status(message: str) -> Status:
    """A spinner while something takes seconds."""
    return open_console(stderr=True).status(message)


@contextmanager
def _progress(count: int) -> Iterator[Callable[[Result], None]]:
    """A bar for many images, a line each for few."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from singleshot.prediction.frames import Failure

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    console = open_console()
    silent = count <= LISTED_IMAGES or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as bar:
        task = bar.add_task("", total=count)

        def on_result(result: Result) -> None:
            bar.advance(task)
            if count > LISTED_IMAGES:
                return
            if isinstance(result, Failure):
                typer.echo(f"{shown(result.path)}: failed")
            else:
                objects = _listed(Counter(result.detections.names)) or "nothing found"
                typer.echo(f"{shown(result.detections.path)}: {objects}")

        yield on_result


def _print_times(summary: JobSummary) -> None:
    """Where the time went. Stages run at the same time, so that their seconds may add up to more than the run took."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("stage", "seconds", "ms per image"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, seconds in summary.times.seconds.items():
        table.add_row(STAGE_NAMES[stage], f"{seconds:.2f}", f"{1000 * seconds / max(summary.done, 1):.2f}")
    open_console().print(table)


def _listed(objects: Counter[str]) -> str:
    return ", ".join(f"{count:,} {shown(name)}" for name, count in objects.most_common())


def _tell(summary: JobSummary, backend: str, count: int, times: bool | None) -> bool:
    """What was done; whether that could be said. The results are written by now, whatever becomes of the text."""
    if summary.interruption:
        typer.echo(
            f"Interrupted after {summary.done:,} of {counted(count, 'image')}; what was found is kept.", err=True
        )
    try:
        _print_summary(summary, backend, count > LISTED_IMAGES if times is None else times)
        if summary.folder is not None:
            typer.echo(f"Results: {shown(summary.folder)}")
    except BrokenPipeError:  # `| head` has read enough
        discard_output()
    except OSError as error:
        discard_output()
        typer.echo(f"The standard output cannot be written: {error.strerror}", err=True)
        return False
    return True


def _print_summary(summary: JobSummary, backend: str, times: bool) -> None:
    images, objects = counted(summary.images, "image"), counted(summary.objects.total(), "object")
    typer.echo(f"{images}, {objects} in {summary.time_line()}, {backend}")
    if times:
        _print_times(summary)
    if summary.images > LISTED_IMAGES and summary.objects:
        typer.echo(f"Found: {_listed(summary.objects)}")


def _print_problems(summary: JobSummary, missed: Sequence[str]) -> None:
    _print_errors("could not be read", [str(failure.error) for failure in summary.failures])
    lines = [f"{path}: {error}" if path and str(path) not in error else error for path, error in summary.problems]
    _print_errors("could not be written", lines)
    _print_errors("could not be looked at", missed)


def _print_errors(what: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    typer.secho(f"{len(lines):,} {what}:", fg=typer.colors.RED, err=True)
    for line in lines[:LISTED_ERRORS]:
        typer.echo(f"  {shown(in_flags(line))}", err=True)
    if len(lines) > LISTED_ERRORS:
        typer.echo(f"  ... and {len(lines) - LISTED_ERRORS:,} more", err=True)
