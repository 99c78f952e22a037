"""What ``singleshot predict`` says: notes, progress, the summary, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import typer

from singleshot.cli.console import discard_output, in_flags, open_console, shown
from singleshot.core.lazy import lazy_module
from singleshot.core.wording import counted

if TYPE_CHECKING:
    from rich.progress import Progress

    import singleshot.prediction.frames as frames
    import singleshot.prediction.job as jobs
else:
    frames, jobs = lazy_module("singleshot.prediction.frames"), lazy_module("singleshot.prediction.job")

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


def note(line: str) -> None:
    """Say one line before the work."""
    print_notes([line])


def print_notes(lines: Iterable[str]) -> None:
    """Say what was done otherwise than asked, a line each."""
    for line in lines:
        typer.echo(f"Note: {shown(in_flags(line))}", err=True)


def status(message: str) -> AbstractContextManager[object]:
    """A spinner while something takes seconds."""
    return open_console(stderr=True).status(message)


@contextmanager
def _bar(is_shown: bool) -> Iterator[Progress]:
    """A bar; where it is not shown it only counts."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    bar = Progress(*columns, console=open_console(), transient=True)
    # Old versions of rich (14.0) print an empty line at the end of a disabled bar: it is not started instead.
    with bar if is_shown else nullcontext():
        yield bar


@contextmanager
def progress_in_counts(count: int) -> Iterator[Callable[[int], None]]:
    """A bar that is told how many images more are done."""
    with _bar(open_console().is_terminal) as bar:
        task = bar.add_task("", total=count, rate="images")

        def on_images(more: int) -> None:
            bar.advance(task, more)
            if speed := bar.tasks[0].speed:
                bar.update(task, rate=f"{speed:.1f} images/s")

        yield on_images


@contextmanager
def progress(count: int | None, is_moving: bool) -> Iterator[Callable[[frames.Result], None]]:
    """A bar for many images or frames, a line each for few images."""
    console = open_console()
    listed = not is_moving and count is not None and count <= LISTED_IMAGES
    with _bar(console.is_terminal and not listed) as bar:
        task = bar.add_task("", total=count, rate="frames" if is_moving else "images")

        def on_result(result: frames.Result) -> None:
            bar.advance(task)
            if not listed:
                speed = bar.tasks[0].speed
                if speed:
                    bar.update(task, rate=f"{speed:.1f} {'frames' if is_moving else 'images'}/s")
            elif isinstance(result, frames.Failure):
                typer.echo(f"{shown(result.path)}: failed")
            else:
                objects = _listed(Counter(result.detections.names)) or "nothing found"
                typer.echo(f"{shown(result.detections.path)}: {objects}")

        yield on_result


def _print_times(summary: jobs.JobSummary) -> None:
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


def tell(summary: jobs.JobSummary, backend: str, count: int | None, times: bool | None) -> bool:
    """What was done; whether that could be said. The results are written by now, whatever becomes of the text."""
    if summary.interruption:
        of_all = "" if count is None else f" of {counted(count, 'image')}"
        typer.echo(f"Interrupted after {summary.done:,}{of_all}; what was found is kept.", err=True)
    try:
        _print_summary(summary, backend, (count is None or count > LISTED_IMAGES) if times is None else times)
        if summary.folder is not None:
            typer.echo(f"Results: {shown(summary.folder)}")
    except BrokenPipeError:  # `| head` has read enough
        discard_output()
    except OSError as error:
        discard_output()
        typer.echo(f"The standard output cannot be written: {error.strerror}", err=True)
        return False
    return True


def _print_summary(summary: jobs.JobSummary, backend: str, times: bool) -> None:
    images, objects = counted(summary.images, "image"), counted(summary.objects.total(), "object")
    typer.echo(f"{images}, {objects} in {summary.time_line()}, {backend}")
    if times:
        _print_times(summary)
    if summary.images > LISTED_IMAGES and summary.objects:
        typer.echo(f"Found: {_listed(summary.objects)}")


def print_problems(summary: jobs.JobSummary, missed: Sequence[str]) -> None:
    """Say what could not be read, written or looked at."""
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
