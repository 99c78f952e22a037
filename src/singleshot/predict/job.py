"""A whole run: results to sinks, failures collected, time accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from singleshot.predict.runner import Failure, Result, StageTimes
from singleshot.predict.sinks import Sink


@dataclass(slots=True)
class JobSummary:
    """What a run did.

    Attributes:
        images: images that were detected in.
        objects: detections by class name.
        failures: images that could not be read, in order.
        wall_s: seconds from the first image to the last.
        times: seconds by stage.
    """

    times: StageTimes
    images: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Throughput, everything included."""
        return (self.images + len(self.failures)) / self.wall_s if self.wall_s else 0.0

    def time_line(self) -> str:
        """How long it took, in one line."""
        return f"{self.wall_s:.2f} s, {self.images_per_s:.1f} images/s"


def run_job(
    results: Iterable[Result],
    sinks: Sequence[Sink],
    times: StageTimes,
    on_result: Callable[[Result], None] | None = None,
) -> JobSummary:
    """Send results to sinks as they come; a failed image is noted and the run goes on.

    Args:
        results: from `Predictor.stream`.
        sinks: opened sinks.
        times: the predictor's, to which the writing is added.
        on_result: called after each image, for progress.
    """
    summary = JobSummary(times)
    begin = perf_counter()
    for result in results:
        start = perf_counter()
        for sink in sinks:
            if isinstance(result, Failure):
                sink.fail(result)
            else:
                sink.write(result)
        times.add("write", start)
        if isinstance(result, Failure):
            summary.failures.append(result)
        else:
            summary.images += 1
            summary.objects.update(result.detections.names)
        if on_result:
            on_result(result)
    summary.wall_s = perf_counter() - begin
    return summary
