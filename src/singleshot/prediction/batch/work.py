"""What is done with a slice, in whatever process: detect, then write its part or give the results back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from singleshot.errors import ImageError
from singleshot.images.read import quiet_decoders
from singleshot.prediction.batch.parts_folder import PartsFolder
from singleshot.prediction.batch.slices import NamedImage, Slice
from singleshot.prediction.frames import Failure, Result
from singleshot.prediction.pipeline import Predictor
from singleshot.prediction.refinement import Refinement, Refiner
from singleshot.prediction.result_table import schema_of, to_table


@dataclass(slots=True)
class SliceReport:
    """What became of a slice.

    Attributes:
        start: number of its first image in the job: tells which slice it is.
        results: of its images, in order; none where they were written to a part.
        images: how many were detected in.
        objects: detections by class name.
        failures: images that could not be read.
        seconds: spent in each stage.
        problem: why it was not done, or its part could not be written; empty where all is well.
    """

    start: int
    results: list[Result] = field(default_factory=list)
    images: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    problem: str = ""

    def count(self, result: Result) -> None:
        """Take note of one image."""
        if isinstance(result, Failure):
            self.failures.append(result)
        else:
            self.images += 1
            self.objects.update(result.detections.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All that a worker needs; pickled to it.

    Attributes:
        build: makes the predictor.
        batch_size: images that the network sees at once.
        parts: where parts are written; ``None`` gives the results back.
        refinement: what happens to detections before they are written to a part.
        with_pixels: whether results that are given back hold their pictures.
    """

    build: Callable[[], Predictor]
    batch_size: int = 1
    parts: PartsFolder | None = None
    refinement: Refinement | None = None
    with_pixels: bool = False

    def start(self) -> Worker:
        """Make the detector."""
        return Worker(self, self.build())


class Worker:
    """Does one slice after the other.

    Args:
        work: what to do.
        predictor: what detects.
    """

    def __init__(self, work: Work, predictor: Predictor) -> None:
        self._work = work
        self._predictor = predictor
        refinement = work.refinement
        self._refiner = None if refinement is None or refinement.is_plain else Refiner(refinement)

    def do(
        self, own: Slice, skipped: frozenset[int] = frozenset(), on_image: Callable[[int], object] | None = None
    ) -> SliceReport:
        """Detect in a slice.

        Args:
            own: its images.
            skipped: numbers of images in the slice that end the process which looks at them: these become failures.
            on_image: is told the number of each image before it is looked at; then there is one at a time.
        """
        before = dict(self._predictor.times.seconds)
        report, named = SliceReport(own.start), []
        with quiet_decoders():
            for number, (name, result) in enumerate(self._results(own, skipped, on_image)):
                if not isinstance(result, Failure):
                    result = replace(result, frame=replace(result.frame, index=own.start + number))
                elif name not in str(result.error):
                    result = Failure(result.path, ImageError(f"{name}: {result.error}"))
                report.count(result)
                named.append((name, result))
        if self._work.parts is None:
            report.results = [self._light(result) for _, result in named]
        else:
            start = perf_counter()
            report.problem = self._write(self._work.parts, own.part, named)
            self._predictor.times.add("write", start)
        report.seconds = {stage: now - before[stage] for stage, now in self._predictor.times.seconds.items()}
        return report

    def _results(
        self, own: Slice, skipped: frozenset[int], on_image: Callable[[int], object] | None
    ) -> Iterator[tuple[str, Result]]:
        names: list[str] = []

        def items() -> Iterator[Any]:
            for number, image in enumerate(own.images.open()):
                names.append(image.name)
                yield _lost(image) if number in skipped else image.item

        def one_by_one() -> Iterator[Result]:
            for number, item in enumerate(items()):
                if on_image is not None:
                    on_image(number)
                yield from self._predictor.stream([item], 1)

        found = self._predictor.stream(items(), self._work.batch_size) if on_image is None else one_by_one()
        for number, result in enumerate(found):
            refine = self._refiner is not None and self._work.parts is not None and not isinstance(result, Failure)
            yield names[number], self._refiner.apply(result) if refine else result  # type: ignore[union-attr, arg-type]

    def _write(self, parts: PartsFolder, name: str, named: list[tuple[str, Result]]) -> str:
        """Write a part; why that did not work, where it did not."""
        schema = schema_of(self._predictor.class_names, self._predictor.category_ids)
        try:
            parts.write(name, to_table(named, schema))
        except OSError as error:
            return f"{parts.place(name)}: {error.strerror or error}"
        return ""

    def _light(self, result: Result) -> Result:
        """A result to send: without its picture, unless that is wanted."""
        if isinstance(result, Failure) or self._work.with_pixels:
            return result
        return replace(result, frame=replace(result.frame, pixels=NO_PIXELS))


NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
"""In place of a picture that stayed with the worker."""


def _lost(image: NamedImage) -> Failure:
    path = image.item if not isinstance(image.item, Failure) else None
    return Failure(path, ImageError(f"{image.name}: the process that looks at it dies, twice: left out"))
