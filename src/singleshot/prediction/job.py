"""A whole run: results to sinks, failures collected, time accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from singleshot.errors import SingleshotError
from singleshot.prediction.frames import Failure, Result
from singleshot.prediction.pipeline import StageTimes
from singleshot.prediction.sinks import Sink


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
        times: seconds by stage.
    """

    times: StageTimes
    images: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    problems: list[OutputProblem] = field(default_factory=list)
    interruption: KeyboardInterrupt | None = None
    wall_s: float = 0.0

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
                _send(result, sink, summary.problems)
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


def _send(result: Result, sink: Sink, problems: list[OutputProblem]) -> None:
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
