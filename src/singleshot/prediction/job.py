"""A whole run: which images, where the results go, failures collected, time accounted for."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from singleshot.core.wording import counted
from singleshot.errors import ConfigError, ImageError, SingleshotError
from singleshot.images.read import quiet_decoders
from singleshot.prediction.frames import Failure, Frame, Result
from singleshot.prediction.not_images import other_file
from singleshot.prediction.output_folder import Journal, new_folder, read_journal
from singleshot.prediction.pipeline import StageTimes
from singleshot.prediction.refinement import Refinement, Refiner
from singleshot.prediction.settings import check_line_width
from singleshot.prediction.sinks import Note, Sink, Truth, check_kinds, check_sinks, open_sinks
from singleshot.prediction.sources import FoundImages, search_images
from singleshot.prediction.split_images import split_images
from singleshot.prediction.streams import Moving
from singleshot.prediction.views import ViewPlan

OUT = Path("predictions")
"""Where results go that nobody gave a folder; the next run's go to ``predictions-2``."""

FEW_IMAGES = 20
"""Of so many, all being videos or lists is a mistake; among more it is not looked for."""


class Detecting(Protocol):
    """What a run needs of a `Predictor`, or of what stands in its place."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What class ids mean."""

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The training data's own ids by class id."""

    @property
    def times(self) -> StageTimes:
        """Where the time goes."""

    @property
    def views(self) -> ViewPlan:
        """How a picture is looked at."""

    def stream(self, sources: Iterable[Any], batch_size: int = 8, *, live: bool = False) -> Iterator[Result]:
        """Detect in any number of images, as `Predictor.stream`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a run writes.

    Attributes:
        kinds: names in `SINKS`.
        folder: where; ``None`` makes a new one.
        overwrite: whether files that are there may be replaced; what an earlier run recorded is removed.
        labels, line_width: how boxes are drawn.
        resume: continue the run whose results are in the folder: images that are done are skipped.
        how: settings that a run shares with the one that it continues.
        split, truth: of the data set that the images are of, for the sinks that tell them.
    """

    kinds: Sequence[str] = ()
    folder: Path | None = None
    overwrite: bool = False
    labels: bool = True
    line_width: int | None = None
    split: str = ""
    truth: Truth | None = None
    resume: bool = False
    how: Mapping[str, Any] = field(default_factory=dict)

    def check(self, images: Sequence[Path] = ()) -> None:
        """Refuse, before any work, what could not be written.

        Raises:
            ConfigError: an unknown kind, or a width that makes no sense.
            OutputError: something is there that may not be replaced.
        """
        check_line_width(self.line_width)
        if self.resume and (self.folder is None or self.overwrite):
            raise ConfigError("`resume=True` continues the run in a folder: name it by `out`, and do not overwrite it")
        if self.folder is None:
            check_kinds(self.kinds)
        else:
            check_sinks(self.kinds, self.folder, images, self.overwrite, self.resume)


class OutputProblem(NamedTuple):
    """Something that could not be written.

    Attributes:
        path: the image that it belongs to; ``None`` for a file of the whole run.
        error: what and why.
    """

    path: Path | None
    error: str


@dataclass(slots=True)
class JobSummary:
    """What a run did.

    Attributes:
        images: images that were detected in.
        objects: detections by class name.
        failures: images that could not be read, in order.
        problems: what could not be written, in order.
        interruption: what ended the run before its last image (Ctrl-C); ``None`` where nothing did.
        wall_s: seconds from the first image to the last.
        folder: where the results are (also an address); ``None`` where none were asked for.
        times: seconds by stage.
    """

    times: StageTimes
    images: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    problems: list[OutputProblem] = field(default_factory=list)
    interruption: KeyboardInterrupt | None = None
    wall_s: float = 0.0
    folder: Path | str | None = None

    @property
    def done(self) -> int:
        """Images that were looked at, also in vain."""
        return self.images + len(self.failures)

    @property
    def images_per_s(self) -> float:
        """Throughput, everything included."""
        return self.done / self.wall_s if self.wall_s else 0.0

    def time_line(self) -> str:
        """How long it took, in one line."""
        return f"{self.wall_s:.2f} s, {self.images_per_s:.1f} images/s"


def find_images_of_job(
    sources: Sequence[str], output: Output, *, recursive: bool = False, split: str | None = None
) -> FoundImages:
    """The images of a run, once it is sure that its results can be written.

    Args:
        sources: files, folders, globs.
        output: what will be written.
        recursive: look into subfolders.
        split: take the images of this split of the one source, a data set; ``all`` is everything.

    Raises:
        ConfigError, OutputError: as `Output.check`; or ``split`` of several sources.
        DataError: ``split`` of what is no data set.
        ImageError: a source does not exist or holds no image, or all of them are something else.
    """
    output.check()
    if split is not None:
        if len(sources) != 1:
            raise ConfigError(f"`split={split}` is of one data set, not of {len(sources)} sources: name one")
        found = split_images(sources[0], split)
        output.check(found.images)
        return found
    found = search_images(sources, recursive=recursive, exclude=output.folder)
    others = [other_file(path) for path in found.images[:FEW_IMAGES]]
    if len(found.images) <= FEW_IMAGES and all(others):  # among photos, one of these is an image that fails
        raise ImageError(f"{found.images[0]}: {others[0]}")
    output.check(found.images)
    return found


def detect_and_save(
    predictor: Detecting,
    images: Sequence[Path],
    output: Output,
    batch_size: int = 1,
    on_result: Callable[[Result], None] | None = None,
    note: Note = warnings.warn,
    *,
    moving: Moving | None = None,
    refinement: Refinement | None = None,
    viewer: Sink | None = None,
) -> JobSummary:
    """Detect in all images, then in all videos and streams, and write what was asked for.

    Args:
        predictor: a `Predictor`, or another.
        images: from `find_images_of_job`.
        output: what to write.
        batch_size: images that the network sees at once.
        on_result: as in `run_job`.
        note: is told what is done otherwise than asked.
        moving: videos and streams, entered.
        refinement: what happens to detections before they are written.
        viewer: another sink, which is shown everything first.

    Raises:
        OutputError, OSError: nothing can be written at all.
    """
    folder = output.folder or (new_folder(OUT) if output.kinds else OUT)
    journal = read_journal(folder, output.how) if output.resume else Journal()
    todo = [image for image in images if not journal.is_done(str(image))]
    if journal.done:
        note(f"{folder}: {counted(len(images) - len(todo), 'image')} done before, {len(todo):,} to do")
    refiner = None if refinement is None or refinement.is_plain else Refiner(refinement)
    summary: JobSummary | None = None
    sinks = open_sinks(
        output.kinds,
        folder,
        [*images, *(Path(source) for source in moving.sources)] if moving else images,
        predictor.class_names,
        predictor.category_ids,
        overwrite=output.overwrite,
        labels=output.labels,
        line_width=output.line_width,
        note=note,
        split=output.split,
        truth=output.truth,
        resume=output.resume,
        how=output.how,
        timed=moving is not None,
        tracked=refinement is not None and refinement.track,
        whole=lambda: summary is not None and summary.interruption is None,
    )
    try:
        with quiet_decoders(), viewer or nullcontext(), sinks as opened:
            items: Iterable[Path | Frame | Failure] = chain(todo, moving) if moving else todo
            few = moving is None and predictor.views.is_plain and len(todo) < batch_size
            at_once = max(1, len(todo)) if few else max(batch_size, moving.together if moving else 1)
            results = predictor.stream(items, at_once, live=moving is not None and moving.is_live)
            if refiner is not None:
                results = _refined(results, refiner)
            summary = run_job(results, [*([viewer] if viewer else []), *opened], predictor.times, on_result)
    except OSError as error:
        if summary is None:
            raise
        summary.problems.append(OutputProblem(None, describe(error)))  # the end of a file: what came before is there
    summary.folder = folder if output.kinds else None
    return summary


def _refined(results: Iterator[Result], refiner: Refiner) -> Iterator[Result]:
    try:
        for result in results:
            yield result if isinstance(result, Failure) else refiner.apply(result)
    finally:
        if isinstance(results, Generator):
            results.close()


def run_job(
    results: Iterable[Result],
    sinks: Sequence[Sink],
    times: StageTimes,
    on_result: Callable[[Result], None] | None = None,
) -> JobSummary:
    """Send results to sinks as they come. What cannot be read, written or shown belongs to its image; the run goes on.

    Ctrl-C ends it with what was done: see ``JobSummary.interruption``.

    Args:
        results: from `Predictor.stream`.
        sinks: opened sinks.
        times: the predictor's, to which the writing is added.
        on_result: called after each image, for progress; an error of it is passed over.
    """
    summary = JobSummary(times)
    begin = perf_counter()
    try:
        for result in results:
            start = perf_counter()
            for sink in sinks:
                send(result, sink, summary.problems)
            times.add("write", start)
            if isinstance(result, Failure):
                summary.failures.append(result)
            else:
                summary.images += 1
                summary.objects.update(result.detections.names)
            if on_result:
                with suppress(Exception):  # a closed pipe, a full disk behind it: the results matter more
                    on_result(result)
    except KeyboardInterrupt as error:
        summary.interruption = error
        if isinstance(results, Generator):
            results.close()
    summary.wall_s = perf_counter() - begin
    return summary


def send(result: Result, sink: Sink, problems: list[OutputProblem]) -> None:
    """Give a sink one result; what it cannot write is added to ``problems``."""
    try:
        if isinstance(result, Failure):
            sink.fail(result)
        else:
            sink.write(result)
    except Exception as error:  # whatever it is, it is this image's, and the others are to be written
        path = result.path if isinstance(result, Failure) else result.detections.path
        problems.append(OutputProblem(path, describe(error)))


def describe(error: Exception) -> str:
    """An error in one line that names what it is about."""
    if isinstance(error, SingleshotError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"
