"""``singleshot data``: look at a data set, or write it in another format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from singleshot.cli.console import open_console
from singleshot.cli.shared_options import DecisionsOption, FormatOption, LowerNamesOption
from singleshot.core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from singleshot.data.check import DataReport

data = typer.Typer(
    help="Look at labelled images, or write them in another format.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

BadDataOption = Annotated[
    Literal["skip", "error"],
    typer.Option("--bad-data", help="**skip** mends or leaves out bad records; **error** refuses them."),
]
T = TypeVar("T")
EXAMPLES = 3
SIZES_SHOWN = 5
CLASSES_SHOWN = 200
COUNTS = ("objects", "images", "difficult", "crowd", "small", "medium", "large")


@data.command()
def check(
    path: Annotated[Path, typer.Argument(help="Folder, COCO or LabelMe .json, YOLO .yaml, .csv or .rec.")],
    split: Annotated[str | None, typer.Option(help="One split, or several joined by +. Default: everything.")] = None,
    format: FormatOption = "auto",
    bad_data: BadDataOption = "skip",
    deep: Annotated[bool, typer.Option("--deep/--fast", help="Decode every image, or read only the headers.")] = True,
    lower_names: LowerNamesOption = False,
    decisions: DecisionsOption = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write everything to a JSON file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file where it exists.")] = False,
) -> None:
    """Print splits, classes, sizes and every bad record; the exit code is 1 when a record has to be left out.

    Examples:

    * `singleshot data check photos`
    * `singleshot data check VOCdevkit --split 2007_trainval+2012_trainval --fast`

    With `--bad-data error` a record that has to be repaired counts too.
    """
    from singleshot.core.files import check_output
    from singleshot.data.check import check as check_data

    if json is not None:
        check_output(json, overwrite=overwrite, sources=[path])
    report = check_data(
        path,
        split,
        format,
        bad_data,
        deep=deep,
        lower_names=lower_names,
        decisions=decisions,
        track=track_items("Decoding images"),
    )
    if json is not None:  # a label file, a list or a photo of the data set is nothing to overwrite, either
        check_output(json, overwrite=overwrite, sources=_files_of(report))
    console = open_console()
    _print_report(console, report)
    if json is not None:
        from json import dumps

        from singleshot.core.files import write_atomically

        console.print(f"Written: {write_atomically(json, dumps(report.to_dict(), indent=1))}")
    raise typer.Exit(1 if report.errors else 0)


def _files_of(report: DataReport) -> Iterator[Path]:
    """Pictures and label files."""
    for sample in report.dataset.samples:
        yield sample.image_path
        yield Path(re.sub(r":\d+$", "", sample.source))
    yield from (Path(problem.file) for problem in report.problems)


@data.command()
def split(
    path: Annotated[Path, typer.Argument(help="Folder, COCO or LabelMe .json, YOLO .yaml, .csv or .rec.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the lists.", show_default="NAME_split in the current folder")
    ] = None,
    format: FormatOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace lists that are there.")] = False,
) -> None:
    """Write which image is in which split: train.txt, val.txt, test.txt, one path a line.

    Examples:

    * `singleshot data split photos --out photos-split`

    These are the data set's own splits or, where it has none, the parts into which training divides it.
    """
    from singleshot.data.split_lists import write_lists

    done = write_lists(path, out, format, overwrite=overwrite)
    console = open_console()
    for note in done.notes:
        console.print(note, soft_wrap=True)
    for file, count in done.files.items():
        typer.echo(f"{counted(count, 'image')} -> {file}")


@data.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder, COCO or LabelMe .json, YOLO .yaml, .csv or .rec.")],
    destination: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    to: Annotated[str, typer.Option(help="The format to write: voc, coco, yolo, rec, shards, parquet.")],
    format: FormatOption = "auto",
    link: Annotated[bool, typer.Option("--link/--copy", help="Link to the images, or copy them.")] = False,
    bad_data: BadDataOption = "skip",
    classes: Annotated[str | None, typer.Option(help="Keep these classes, in this order: a,b,c.")] = None,
    decisions: DecisionsOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a data set in the folder that a conversion wrote.")
    ] = False,
    shard_size: Annotated[int, typer.Option(min=1, metavar="MIB", help="Size of each shard or table.")] = 256,
) -> None:
    """Write a data set as VOC, COCO, YOLO, RecordIO, shards or Parquet; splits, flags and the order of classes stay.

    Examples:

    * `singleshot data convert photos photos-coco --to coco`
    * `singleshot data convert VOCdevkit people --to yolo --classes person --link`

    The exit code is 1 when a record of the source had to be left out.
    """
    from singleshot.data.convert import convert as convert_data

    done = convert_data(
        source,
        destination,
        to,
        format=format,
        images="link" if link else "copy",
        bad_data=bad_data,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        decisions=decisions,
        overwrite=overwrite,
        shard_size=shard_size,
        track=track_items("Linking images" if link else "Copying images"),
    )
    console = open_console()
    console.print(
        f"{counted(done.images, 'image')} with {counted(done.objects, 'object')} -> {destination} ({to})", markup=False
    )
    for name, count in done.splits.items():
        console.print(f"  {name}: {counted(count, 'image')}", markup=False)
    for sentence in (*done.losses, *done.notes):
        console.print(f"  Note: {sentence}.", soft_wrap=True)
    _print_problems(console, done.problems)
    asked = {"unknown-class"} if classes is not None else set()
    left_out = any(problem.action == "skipped" and problem.kind not in asked for problem in done.problems)
    raise typer.Exit(1 if left_out else 0)


@data.command()
def scenes(
    destination: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 240,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other images.")] = 0,
    difficulty: Annotated[float, typer.Option(min=0.0, max=1.0, help="Clutter, noise, occlusion.")] = 0.3,
) -> None:
    """Render a small labelled data set (VOC layout, five classes) to try things with.

    Examples:

    * `singleshot data scenes scenes --count 60`
    """
    from singleshot.demo.scenes import make_scenes

    make_scenes(destination, count, seed, difficulty=difficulty, track=track_items("Rendering scenes"))
    typer.echo(f"{counted(count, 'image')} -> {destination}")


def track_items(text: str) -> Callable[[Sequence[T]], Iterable[T]]:
    """A progress bar that stays off when the output is not a terminal."""
    from rich.progress import track

    console = open_console(stderr=True)
    return lambda items: track(items, text, console=console, disable=not console.is_terminal, transient=True)


def _print_report(console: Console, report: DataReport) -> None:
    dataset, images = report.dataset, report.images
    split = f", split {dataset.split}" if dataset.split else ""
    console.print(f"{dataset.path}: {dataset.format}{split}", style="bold", markup=False, soft_wrap=True)
    share = f" ({images['without_objects']} without objects, at most {images['most_objects']} in one)"
    console.print(f"{counted(images['images'], 'image')}, {counted(images['objects'], 'object')}{share}")
    if report.splits:
        parts = (f"{name} {row['images']} ({counted(row['objects'], 'object')})" for name, row in report.splits.items())
        console.print(f"Splits: {', '.join(parts)}", markup=False, soft_wrap=True)
    elif dataset.split is None:
        console.print("Splits: none")
    for sentence in (*dataset.notes, *report.training):
        console.print(f"  {sentence}", markup=False, soft_wrap=True)
    sizes = images["sizes"]
    shown = ", ".join(f"{s['width']} x {s['height']} ({s['images']})" for s in sizes[:SIZES_SHOWN])
    more = f" and {len(sizes) - SIZES_SHOWN} more" if len(sizes) > SIZES_SHOWN else ""
    console.print(f"Sizes, width x height: {shown}{more}", soft_wrap=True)
    if report.deep:
        console.print(f"Pixels: {', '.join(f'{name} ({count})' for name, count in images['pixels'].items())}")
    console.print(_class_table(report.classes))
    _print_problems(console, report.problems)


def _class_table(rows: Sequence[dict[str, Any]]) -> Any:
    from rich.table import Table

    counts = [key for key in COUNTS if key not in ("difficult", "crowd") or any(row[key] for row in rows)]
    table = Table(box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for title in (*counts, "median px"):
        table.add_column(title, justify="right", no_wrap=True)
    shown = [row for row in rows if row["objects"]] if len(rows) > CLASSES_SHOWN else rows
    for row in shown[:CLASSES_SHOWN]:
        median = f"{row['median_width_px']:.0f} x {row['median_height_px']:.0f}" if row["objects"] else "-"
        table.add_row(row["name"], *(str(row[key]) for key in counts), median)
    if len(rows) > CLASSES_SHOWN:
        unused = sum(not row["objects"] for row in rows)
        more = max(len(shown) - CLASSES_SHOWN, 0)
        table.caption = f"and {more} more classes, {unused} without an object; --json lists all"
    return table


def _print_problems(console: Console, problems: Sequence[Any]) -> None:
    from singleshot.data.bad_records import count_kinds

    if not problems:
        console.print("No problems.", style="green")
    for (kind, action), count in count_kinds(problems).items():
        colour = {"skipped": "red", "repaired": "yellow", "noted": "none"}[action]
        console.print(f"{action} {count} x {kind}", style=colour)
        mine = [problem for problem in problems if (problem.kind, problem.action) == (kind, action)]
        for problem in mine[:EXAMPLES]:
            console.print(f"  {problem.where}: {problem.message}", soft_wrap=True, markup=False)
        if count > EXAMPLES:
            console.print(f"  ... {count - EXAMPLES} more (--json lists all)")
