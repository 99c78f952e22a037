"""``singleshot predict``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from singleshot.cli import predict_options as options
from singleshot.cli import shared_options as shared
from singleshot.cli.console import shown
from singleshot.cli.predict_batch import Division, Done, detect_in_parts, engine_predictor
from singleshot.cli.predict_output import note, print_notes, print_problems, progress, tell
from singleshot.cli.predict_settings import Look, connection

if TYPE_CHECKING:
    from singleshot.client import Client
    from singleshot.client.remote import RemotePredictor
    from singleshot.prediction.batch.batch_job import EnginePredictor
    from singleshot.prediction.job import Output
    from singleshot.prediction.pipeline import Predictor
    from singleshot.prediction.refinement import Refinement
    from singleshot.prediction.sources import FoundImages
    from singleshot.prediction.streams import Moving
    from singleshot.prediction.viewer import Viewer


def predict(
    sources: options.Sources,
    model: options.Model = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    score: options.Score = None,
    save: options.Save = None,
    classes: options.Classes = None,
    agnostic: shared.AgnosticOption = False,
    batch_size: shared.BatchSizeOption = 1,
    backend: shared.BackendOption = "auto",
    precision: options.Precision = "auto",
    device: shared.DeviceOption = "auto",
    compile: shared.CompileOption = False,
    split: options.Split = None,
    recursive: options.Recursive = False,
    size: options.Size = None,
    nms_iou: shared.NmsIouOption = None,
    max_detections: options.MaxDetections = None,
    top_k: shared.TopKOption = None,
    clip: options.Clip = True,
    labels: options.Labels = True,
    line_width: options.LineWidth = None,
    times: options.Times = None,
    max_pixels: options.MaxPixels = 178_956_970,
    every: options.Every = 1,
    fps: options.Fps = None,
    start: options.Start = None,
    end: options.End = None,
    max_frames: options.MaxFrames = None,
    live: options.Live = "latest",
    show: options.Show = False,
    track: options.Track = False,
    count: options.Count = None,
    zone: options.Zone = None,
    min_size: options.MinSize = 0.0,
    tile: shared.TileOption = None,
    overlap: shared.OverlapOption = 0.2,
    merge: shared.MergeOption = "nms",
    augment_test: shared.AugmentTestOption = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    engine: options.Engine = None,
    workers: options.Workers = None,
    address: options.Address = None,
    part_size: options.PartSize = None,
    column: options.Column = None,
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
    * `singleshot predict photos/ --engine processes --workers 4`
    * `singleshot predict s3://bucket/photos --engine ray --address auto --out s3://bucket/found`

    An image that cannot be read, or whose results cannot be written, ends nothing: it is listed at the end, and the
    exit code is 1. Exit code 2 means that nothing was done (a wrong option, path or weights file). Ctrl-C keeps what
    was found until then.
    """
    from singleshot.errors import ConfigError
    from singleshot.prediction.batch.parts_folder import is_uri
    from singleshot.prediction.job import Output
    from singleshot.prediction.live import LiveConfig
    from singleshot.prediction.refinement import Refinement
    from singleshot.prediction.streams import Moving, is_moving, start_of
    from singleshot.prediction.video import FrameChoice

    look = Look(
        model=model, score=score, nms_iou=nms_iou, max_detections=max_detections, classes=classes, agnostic=agnostic,
        top_k=top_k, clip=clip, size=size, max_pixels=max_pixels, batch_size=batch_size, backend=backend,
        precision=precision, device=device, compile=compile, tile=tile, overlap=overlap, merge=merge,
        augment_test=augment_test,
    )  # fmt: skip
    look.check()
    client = connection(server, token_file, look.only_here())
    division = Division.of(engine, workers, address, part_size, column)
    look = look.completed(client)
    choice = FrameChoice(every, fps, start_of(start, "start"), start_of(end, "end"), max_frames)
    sources = [own for source in sources for own in _listed_sources(source)]
    streams = [source for source in sources if is_moving(source)]
    if resume and (streams or track):
        raise ConfigError("`resume` continues runs over images; videos and tracks are looked at from their beginning")
    moving = Moving(streams, choice, LiveConfig(cast(Any, live)), note, max_pixels) if streams else None
    with moving or nullcontext():
        kinds = _kinds(division.save or None if division and save is None else save, moving, count)
        if division is not None:
            division.check(kinds, {"server": server, "track": track, "count": count, sources[0]: moving})
        in_parts = division is not None and kinds == ["parquet"]
        refined = {"min_size": min_size, "zone": None if zone is None else str(zone), "server": server}
        output = Output(
            kinds=[] if in_parts else kinds, folder=None if out is None or (in_parts and is_uri(out)) else Path(out),
            overwrite=overwrite, labels=labels, line_width=line_width, split=split or "", resume=resume,
            how={"save": ",".join(kinds)} | look.how() | refined,
        )  # fmt: skip
        refinement = Refinement.of(
            track=track,
            score=look.least,
            min_size=min_size,
            zone=zone,
            count=count or (),
            fps=fps or (moving.fps if moving else None),
        )
        if division is not None and in_parts:
            division.check(kinds, {"show": show})
            done = detect_in_parts(look, division, output, out, sources, refinement, recursive=recursive, split=split)
        else:
            output.check([Path(source) for source in streams])
            found = _find([source for source in sources if source not in streams], output, recursive, split)
            viewer = _viewer(labels, line_width) if show else None
            done = _detect(look, client or division, output, found, moving, refinement, viewer)
    _end(done, times)


def _end(done: Done, times: bool | None) -> None:
    """Say what was done, and leave with the code that this means."""
    from singleshot.cli.signals import interrupt_code

    summary = done.summary
    told = tell(summary, done.computed_by, done.total, times)
    print_notes(done.notes)
    print_problems(summary, done.missed)
    if summary.interruption:
        raise typer.Exit(interrupt_code(summary.interruption))
    if summary.failures or summary.problems or done.missed or not told:
        raise typer.Exit(1)


def _find(sources: list[str], output: Output, recursive: bool, split: str | None) -> FoundImages:
    """The images among the sources; there may be none where there are videos."""
    from singleshot.prediction.job import find_images_of_job
    from singleshot.prediction.sources import FoundImages

    return find_images_of_job(sources, output, recursive=recursive, split=split) if sources else FoundImages()


def _detect(
    look: Look,
    by: Client | Division | None,
    output: Output,
    found: FoundImages,
    moving: Moving | None,
    refinement: Refinement,
    viewer: Viewer | None,
) -> Done:
    """Run the job by a service, by an engine or, without either, in this process."""
    from singleshot.errors import ServerError
    from singleshot.prediction.batch.registry import EngineError
    from singleshot.prediction.job import detect_and_save

    predictor: Predictor | RemotePredictor | EnginePredictor
    images, least = len(found.images), refinement.detect_from
    if by is None:
        predictor = look.predictor(least, None if moving else images)
        computed_by = predictor.backend.name
    elif isinstance(by, Division):
        predictor, computed_by = engine_predictor(look, by, least, images, output.kinds, viewer is not None)
    else:
        predictor = look.remote(by, least)
        computed_by = predictor.client.url
    print_notes((*found.missed, *found.notes))
    notes: list[str] = []
    total = _total(images, moving)
    ready = by.ready(look.device) if isinstance(by, Division) else nullcontext()
    with ready, progress(total, moving is not None) as on_result:
        try:
            summary = detect_and_save(
                predictor, found.images, output, look.batch_size, on_result, notes.append,
                moving=moving, refinement=refinement, viewer=viewer,
            )  # fmt: skip
        except (ServerError, EngineError) as error:  # it went away during the run
            typer.echo(f"{shown(error)}: what was found until then is kept, and --resume continues", err=True)
            raise typer.Exit(1) from error
    return Done(summary, computed_by, total, found.missed, notes)


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

    return Viewer(note, labels=labels, line_width=line_width)
