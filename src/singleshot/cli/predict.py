"""``singleshot predict``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import urlsplit

import typer

from singleshot.cli.console import discard_output, in_flags, open_console, shown
from singleshot.cli.shared_options import (
    AgnosticOption,
    AugmentTestOption,
    BackendOption,
    BatchSizeOption,
    CompileOption,
    DeviceOption,
    MergeOption,
    NmsIouOption,
    OverlapOption,
    TileOption,
    TopKOption,
)
from singleshot.core.wording import counted

if TYPE_CHECKING:
    from rich.status import Status

    from singleshot.client import Client
    from singleshot.client.remote import RemotePredictor
    from singleshot.prediction.frames import Result
    from singleshot.prediction.job import JobSummary
    from singleshot.prediction.pipeline import Predictor
    from singleshot.prediction.refinement import Refinement
    from singleshot.prediction.streams import Moving
    from singleshot.prediction.viewer import Viewer

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
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Images, folders, globs, zip and tar archives, @LIST.txt, videos; rtsp:// and http:// addresses; "
            "0 for the first camera.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "--weights",
            help="A weights file, or 'coco' or 'coco-v3' for a bundled detector; with --server one of its models.",
            show_default="coco",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results.", show_default="a new one: predictions, predictions-2, ..."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is in --out; an earlier run's results are removed.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out: images that are done are skipped.")
    ] = False,
    score: Annotated[
        float | None,
        typer.Option(help="Least confidence of a detection, 0..1.", show_default="the model's, mostly 0.3"),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            help="What to write, with commas: images, video, json, jsonl, csv, text, coco, yolo, voc, voc-results, "
            "mot, parquet, crops, crossings.",
            show_default="images,json; of videos video,json; of streams jsonl",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(help="Only these classes, by name: person,dog.", show_default="all")
    ] = None,
    agnostic: AgnosticOption = False,
    batch_size: BatchSizeOption = 1,
    backend: BackendOption = "auto",
    precision: Annotated[str, typer.Option(help="In which numbers: auto, fp32, bf16, int8.")] = "auto",
    device: DeviceOption = "auto",
    compile: CompileOption = False,
    split: Annotated[
        str | None, typer.Option(help="Of SOURCE, a data set: the images of this split; 'all' for everything.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into subfolders.")] = False,
    size: Annotated[
        str | None,
        typer.Option(help="Network input: 300, or HEIGHTxWIDTH; a conversion is not kept.", show_default="the model's"),
    ] = None,
    nms_iou: NmsIouOption = None,
    max_detections: Annotated[
        int | None, typer.Option(help="Most detections per image.", show_default="the model's")
    ] = None,
    top_k: TopKOption = None,
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
    every: Annotated[int, typer.Option(help="Of videos, each N-th frame.")] = 1,
    fps: Annotated[float | None, typer.Option(help="Of videos, so many frames a second.", show_default="all")] = None,
    start: Annotated[str | None, typer.Option(help="Where a video begins: 90, 1:30 or 0:01:30.")] = None,
    end: Annotated[str | None, typer.Option(help="Where it ends.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="End after so many frames.", show_default="none")] = None,
    live: Annotated[
        str, typer.Option(help="Of streams: latest drops frames that come too fast, all lets the stream wait.")
    ] = "latest",
    show: Annotated[
        bool, typer.Option("--show", help="Show results as they come: in a window, or on a page of this machine.")
    ] = False,
    track: Annotated[bool, typer.Option("--track", help="Follow objects through frames: they get ids.")] = False,
    count: Annotated[
        list[str] | None, typer.Option(help="Count tracks that cross a line: NAME:x1,y1,x2,y2; repeatable.")
    ] = None,
    zone: Annotated[
        Path | None, typer.Option(help="Only what stands inside polygons: a JSON file of [[x, y], ...].")
    ] = None,
    min_size: Annotated[float, typer.Option(help="Leave out boxes with a side shorter than this, in pixels.")] = 0.0,
    tile: TileOption = None,
    overlap: OverlapOption = 0.2,
    merge: MergeOption = "nms",
    augment_test: AugmentTestOption = None,
    server: Annotated[
        str | None,
        typer.Option(help="Have 'singleshot serve' compute: http://HOST:PORT.", show_default="this machine computes"),
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="Of --server: a file that holds its token.")] = None,
) -> None:
    """Detect objects in images, videos and streams.

    Examples:

    * `singleshot predict street.jpg`
    * `singleshot predict photos/ --recursive --score 0.5 --save images,json,csv`
    * `singleshot predict "photos/*.jpg" --model runs/train/best.safetensors --out found`
    * `singleshot predict photos/ --classes person,dog --agnostic`
    * `singleshot predict VOCdevkit --split 2012_test --save voc-results --score 0.01`
    * `singleshot predict photos/ --resume --out found`
    * `singleshot predict clip.mp4 --track --count door:100,300,500,300`
    * `singleshot predict rtsp://camera/1 --show`
    * `singleshot predict aerial/ --tile 640 --overlap 0.2`
    * `singleshot predict photos/ --server http://127.0.0.1:8000`

    An image that cannot be read, or whose results cannot be written, ends nothing: it is listed at the end, and the
    exit code is 1. Exit code 2 means that nothing was done (a wrong option, path or weights file). Ctrl-C keeps what
    was found until then.
    """
    from singleshot.cli.signals import interrupt_code
    from singleshot.core.sizes import parse_batch_size
    from singleshot.detector import load
    from singleshot.errors import ConfigError, ServerError
    from singleshot.prediction.job import Output, detect_and_save, find_images_of_job
    from singleshot.prediction.live import LiveConfig
    from singleshot.prediction.refinement import Refinement
    from singleshot.prediction.settings import check_score
    from singleshot.prediction.sources import FoundImages
    from singleshot.prediction.streams import Moving, is_moving, start_of
    from singleshot.prediction.video import FrameChoice
    from singleshot.prediction.view_settings import view_plan

    if score is not None:
        check_score(score)
    parse_batch_size(batch_size)
    computed_here = {
        "agnostic": agnostic, "batch_size": batch_size != 1, "backend": backend != "auto",
        "precision": precision != "auto", "device": device != "auto", "compile": compile, "size": size,
        "top_k": top_k is not None, "clip=False": not clip, "tile": tile, "augment_test": augment_test,
    }  # fmt: skip
    connection = _connection(server, token_file, [name for name, given in computed_here.items() if given])
    if server is None:
        model = model or "coco"
    if score is None:
        score = load(model or "coco").spec.default_score if connection is None else _score_of(connection, model)
    start_s, end_s = (start_of(at, name) for at, name in ((start, "start"), (end, "end")))
    choice = FrameChoice(every, fps, start_s, end_s, max_frames)
    sources = [own for source in sources for own in _listed_sources(source)]
    streams = [source for source in sources if is_moving(source)]
    if resume and (streams or track):
        raise ConfigError("`resume` continues runs over images; videos and tracks are looked at from their beginning")
    moving = Moving(streams, choice, LiveConfig(cast(Any, live)), _note, max_pixels) if streams else None
    with moving or nullcontext():
        output = Output(
            kinds=_kinds(save, moving, count),
            folder=out,
            overwrite=overwrite,
            labels=labels,
            line_width=line_width,
            split=split or "",
            resume=resume,
            how={
                "save": ",".join(_kinds(save, moving, count)),
                "model": model,
                "score": score,
                "nms_iou": nms_iou,
                "classes": classes,
                "agnostic": agnostic,
                "max_detections": max_detections,
                "top_k": top_k,
                "size": size,
                "tile": tile,
                "overlap": overlap,
                "merge": merge,
                "augment_test": augment_test,
                "min_size": min_size,
                "clip": clip,
                "zone": None if zone is None else str(zone),
                "server": server,
            },
        )
        output.check([Path(source) for source in streams])
        still = [source for source in sources if source not in streams]
        found = find_images_of_job(still, output, recursive=recursive, split=split) if still else FoundImages()
        refinement = Refinement.of(
            track=track,
            score=score,
            min_size=min_size,
            zone=zone,
            count=count or (),
            fps=fps or (moving.fps if moving else None),
        )
        predictor: Predictor | RemotePredictor
        if connection is not None:
            predictor = _remote(connection, model, refinement, nms_iou, max_detections, classes, max_pixels)
            computed_by = predictor.client.url
        else:
            detector = load(model or "coco") if size is None else load(model or "coco").resized(size)
            views = view_plan(tile, overlap, merge, augment_test, agnostic, detector.spec, _note)
            with _status("Getting the network ready (a conversion is made once, and kept) ..."):
                predictor = detector.predictor(
                    refinement.detect_from,
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
                    images=None if moving else len(found.images),
                    views=views,
                )
            computed_by = predictor.backend.name
        _print_notes((*found.missed, *found.notes))
        notes: list[str] = []
        total = _total(len(found.images), moving)
        viewer = _viewer(labels, line_width) if show else None
        with _progress(total, moving is not None) as on_result:
            try:
                summary = detect_and_save(
                    predictor, found.images, output, batch_size, on_result, notes.append,
                    moving=moving, refinement=refinement, viewer=viewer,
                )  # fmt: skip
            except ServerError as error:  # it went away during the run
                typer.echo(f"{shown(error)}: what was found until then is kept, and --resume continues", err=True)
                raise typer.Exit(1) from error
    told = _tell(summary, computed_by, total, times)
    _print_notes(notes)
    _print_problems(summary, found.missed)
    if summary.interruption:
        raise typer.Exit(interrupt_code(summary.interruption))
    if summary.failures or summary.problems or found.missed or not told:
        raise typer.Exit(1)


def _connection(server: str | None, token_file: Path | None, computed_here: Sequence[str]) -> Client | None:
    """The client of ``--server``; refuses what a service would not do."""
    from singleshot.errors import ConfigError

    if server is None:
        if token_file is not None:
            raise ConfigError("`token_file` is of a `server`: name one")
        return None
    if computed_here:
        raise ConfigError(f"`{computed_here[0]}` is decided by the `server`, where the network runs: leave it out")
    from singleshot.client import Client
    from singleshot.serving.options import LOOPBACK
    from singleshot.serving.token import read_token

    client = Client(server, None if token_file is None else read_token(token_file).get_secret_value())
    address = urlsplit(server)
    if token_file is not None and address.scheme == "http" and address.hostname not in LOOPBACK:
        _note(f"the token goes to {address.hostname} as it is: whoever is on the way can read it (https hides it)")
    return client


def _score_of(client: Client, model: str | None) -> float:
    """What a service takes as the least score; of a model that it has not, `_remote` says so."""
    return next((served.score for served in client.models() if model in (None, served.name)), 0.0)


def _remote(
    client: Client,
    model: str | None,
    refinement: Refinement,
    nms_iou: float | None,
    max_detections: int | None,
    classes: Sequence[str] | None,
    max_pixels: int,
) -> RemotePredictor:
    from singleshot.client.calls import Wanted
    from singleshot.client.remote import connect

    wanted = Wanted(model, refinement.detect_from, nms_iou, max_detections)
    return connect(client, wanted, lambda names: _classes(classes, names), max_pixels)


def _kinds(save: str | None, moving: Moving | None, count: Sequence[str] | None) -> list[str]:
    """What to write, by what is looked at."""
    if save is None:
        save = "images,json" if moving is None or moving.is_still else "jsonl" if moving.is_live else "video,json"
    kinds = [kind.strip() for kind in save.split(",") if kind.strip()]
    return [*kinds, "crossings"] if count and "crossings" not in kinds else kinds


def _listed_sources(source: str) -> list[str]:
    """What a source stands for: the lines of ``@list.txt``, where it lists videos or streams."""
    from singleshot.prediction.source_lists import is_list, read_source_list
    from singleshot.prediction.streams import is_moving

    if not is_list(source):
        return [source]
    listed = [own.source for own in read_source_list(source)]
    return listed if any(map(is_moving, listed)) else [source]  # images keep the line that names them, for messages


def _total(images: int, moving: Moving | None) -> int | None:
    """Images and frames that will come; ``None`` where that is not known."""
    if moving is None:
        return images
    return None if moving.expected is None else images + moving.expected


def _viewer(labels: bool, line_width: int | None) -> Viewer:
    from singleshot.prediction.viewer import Viewer

    return Viewer(_note, labels=labels, line_width=line_width)


def _note(line: str) -> None:
    _print_notes([line])


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
def _progress(count: int | None, frames: bool) -> Iterator[Callable[[Result], None]]:
    """A bar for many images or frames, a line each for few images."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from singleshot.prediction.frames import Failure

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    console = open_console()
    listed = not frames and count is not None and count <= LISTED_IMAGES
    bar = Progress(*columns, console=console, transient=True)
    # Old versions of rich (14.0) print an empty line at the end of a disabled bar: it is not started instead.
    with bar if console.is_terminal and not listed else nullcontext():
        task = bar.add_task("", total=count, rate="frames" if frames else "images")

        def on_result(result: Result) -> None:
            bar.advance(task)
            if not listed:
                speed = bar.tasks[0].speed
                if speed:
                    bar.update(task, rate=f"{speed:.1f} {'frames' if frames else 'images'}/s")
            elif isinstance(result, Failure):
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


def _tell(summary: JobSummary, backend: str, count: int | None, times: bool | None) -> bool:
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
