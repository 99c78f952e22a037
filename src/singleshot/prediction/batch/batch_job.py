"""A whole job on an engine: parts that its workers write, or results that come back to the sinks of this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from singleshot.core.wording import counted
from singleshot.prediction.batch.parts_folder import PartsFolder, is_uri
from singleshot.prediction.batch.registry import Crew, EngineError, JobEngine
from singleshot.prediction.batch.slices import Slice, digest_of, divide, file_runs
from singleshot.prediction.batch.stored_images import is_stored, stored_runs
from singleshot.prediction.batch.work import SliceReport, Work
from singleshot.prediction.frames import Failure, Result
from singleshot.prediction.job import JobSummary, Output, OutputProblem, find_images_of_job
from singleshot.prediction.pipeline import StageTimes
from singleshot.prediction.sinks import Note
from singleshot.prediction.sources import FoundImages
from singleshot.prediction.views import ViewPlan

SENT_AT_ONCE = 64
"""Images whose results come back together; with their pictures a quarter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsJob:
    """What is written in parts.

    Attributes:
        slices: of the images.
        sources: files that are read.
        how: settings that it shares with the one that it continues.
        overwrite: whether an earlier run's results may be replaced.
        resume: continue the run in the folder: parts that are there are left as they are.
    """

    slices: Sequence[Slice]
    sources: Sequence[Path] = ()
    how: dict[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    resume: bool = False


@dataclass(frozen=True, slots=True)
class FoundSlices:
    """What sources mean, in slices.

    Attributes:
        slices: of all images.
        files: of this machine, that hold them.
        notes, missed: as `FoundImages`.
    """

    slices: Sequence[Slice]
    files: Sequence[Path]
    notes: Sequence[str] = ()
    missed: Sequence[str] = ()

    @property
    def count(self) -> int:
        """How many images there are."""
        return sum(len(own.images) for own in self.slices)


def find_slices(
    sources: Sequence[str],
    output: Output,
    part_size: int,
    batch_size: int = 1,
    column: str | None = None,
    *,
    recursive: bool = False,
    split: str | None = None,
) -> FoundSlices:
    """The images of a job in slices.

    Args:
        sources: as for `find_images_of_job`; besides Parquet tables, and addresses that pyarrow knows (``s3://``).
        output: what will be written.
        part_size: images of a slice, made up to whole batches.
        batch_size: images that the network sees at once.
        column: of tables: where the images, or their paths, are.
        recursive, split: as for `find_images_of_job`.

    Raises:
        ConfigError, DataError, ImageError, OutputError: as `find_images_of_job`.
    """
    stored = [source for source in sources if split is None and is_stored(source)]
    plain = [source for source in sources if source not in stored]
    found = FoundImages()
    if plain or not sources:
        found = find_images_of_job(plain, output, recursive=recursive, split=split)
    runs, notes = file_runs([str(path) for path in found.images], part_size, batch_size), list(found.notes)
    for source in stored:
        runs += stored_runs(source, part_size, batch_size, column, recursive=recursive, note=notes.append)
    files = found.images + [Path(source) for source in stored if not is_uri(source)]
    return FoundSlices(divide(runs), files, notes, found.missed)


def detect_to_parts(
    engine: JobEngine,
    work: Work,
    crew: Crew,
    job: PartsJob,
    on_report: Callable[[int], None] | None = None,
    note: Note | None = None,
) -> JobSummary:
    """Detect in all slices; each becomes a part file, whoever dies meanwhile.

    Args:
        engine: of `BATCH_ENGINES`.
        work: for the workers; with ``parts``.
        crew: who works.
        job: what to do.
        on_report: is told how many images are done, for progress.
        note: is told what is done otherwise than asked.

    Raises:
        ConfigError: as `JobEngine.ready`; nothing is replaced then.
        OutputError: as `PartsFolder.held`.
    """
    folder = work.parts
    assert folder is not None
    how = job.how | {"images": f"{sum(len(own.images) for own in job.slices)}, {digest_of(job.slices)}"}
    with engine.ready(crew), folder.held([own.part for own in job.slices], how, job.sources, job.overwrite, job.resume):
        return _fill(folder, engine, work, crew, job, on_report, note)


def _fill(
    folder: PartsFolder,
    engine: JobEngine,
    work: Work,
    crew: Crew,
    job: PartsJob,
    on_report: Callable[[int], None] | None,
    note: Note | None,
) -> JobSummary:
    done = folder.done() if job.resume else set()
    todo = [own for own in job.slices if own.part not in done]
    if job.resume and note is not None:
        before = sum(len(own.images) for own in job.slices if own.part in done)
        rest = sum(len(own.images) for own in todo)
        note(f"{folder.out}: {counted(before, 'image')} done before, {rest:,} to do")
    summary = JobSummary(StageTimes(), folder=folder.out)
    begin = perf_counter()
    reports = engine.run(work, todo, crew)
    try:
        for report in reports:
            _add(summary, report)
            if on_report is not None:
                with suppress(Exception):  # a closed pipe: the results matter more
                    on_report(report.images + len(report.failures))
    except KeyboardInterrupt as error:
        summary.interruption = error
    except EngineError as error:
        summary.problems.append(OutputProblem(None, f"{error}; `resume` does what is missing"))
    finally:
        reports.close()
        folder.sweep()
    summary.wall_s = perf_counter() - begin
    if summary.interruption is None:
        _check_whole(summary, folder, job.slices)
    return summary


def _add(summary: JobSummary, report: SliceReport) -> None:
    summary.images += report.images
    summary.objects.update(report.objects)
    summary.failures += report.failures
    for stage, seconds in report.seconds.items():
        summary.times.count(stage, seconds)
    if report.problem:
        summary.problems.append(OutputProblem(None, report.problem))


def _check_whole(summary: JobSummary, folder: PartsFolder, slices: Sequence[Slice]) -> None:
    """Say which parts are missing although nothing stopped the job, where nobody has said so."""
    done = folder.done()
    missing = [own for own in slices if own.part not in done]
    if missing and not summary.problems:
        images = counted(sum(len(own.images) for own in missing), "image")
        problem = (
            f"{counted(len(missing), 'part')} with {images}: the engine gave up on them; `resume` does what is missing"
        )
        summary.problems.append(OutputProblem(None, problem))


@dataclass(frozen=True, slots=True)
class EnginePredictor:
    """Stands in the place of a `Predictor` in a run whose sinks are in this process.

    Attributes:
        engine, work, crew: as in `detect_to_parts`; ``work`` without ``parts``.
        class_names, category_ids, views: of the predictor that the workers build.
        times: where the workers' time goes.
    """

    engine: JobEngine
    work: Work
    crew: Crew
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    views: ViewPlan
    times: StageTimes = field(default_factory=StageTimes)

    def stream(self, sources: Iterable[Any], batch_size: int = 8, *, live: bool = False) -> Iterator[Result]:
        """Detect in image files: the results come in their order, as those of `Predictor.stream`.

        Raises:
            EngineError: at the end, where images are missing; or the workers cannot go on.
        """
        names = [str(source) for source in sources]
        size = SENT_AT_ONCE // 4 if self.work.with_pixels else SENT_AT_ONCE
        size = max(1, min(size, -(-len(names) // (2 * (self.crew.workers or 1)))))
        slices = divide(file_runs(names, size, self.work.batch_size))
        return self._stream(slices, self.engine.run(self.work, slices, self.crew))

    def _stream(
        self, slices: Sequence[Slice], reports: Generator[SliceReport, None, None]
    ) -> Generator[Result, None, None]:
        missing = {own.start: len(own.images) for own in slices}
        reasons: list[str] = []
        try:
            while True:
                start = perf_counter()
                report = next(reports, None)
                self.times.add("wait", start)
                if report is None:
                    break
                if report.problem:
                    reasons.append(report.problem)
                    continue
                del missing[report.start]
                for stage, seconds in report.seconds.items():
                    if stage != "wait":
                        self.times.count(stage, seconds)
                yield from map(_with_size, report.results)
        finally:
            reports.close()
        if missing:  # only now: the others' results are written
            images = counted(sum(missing.values()), "image")
            raise EngineError(f"{images} not looked at: {reasons[0] if reasons else 'the engine gave up on them'}")


def _with_size(result: Result) -> Result:
    """A result whose picture stayed with the worker: black of its size stands for it, and takes no memory."""
    if isinstance(result, Failure) or result.frame.pixels.size:
        return result
    black = np.broadcast_to(np.uint8(0), (*result.detections.image_size_hw, 3))
    return replace(result, frame=replace(result.frame, pixels=black))
