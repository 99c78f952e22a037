"""What an evaluation compares: objects and detections of all images, in two flat tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from singleshot.core.structures import Sample
from singleshot.errors import DataError
from singleshot.evaluation.metrics import DetectionTable, GroundTruth
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Failure, Result
from singleshot.prediction.pipeline import Predictor

Progress = Callable[[int, int], None]
"""Called with the images done and the images in all."""

OnResult = Callable[[Result], object]
"""Called with what became of an image."""


def objects_of(samples: Sequence[Sample], use_difficult: bool) -> GroundTruth:
    """The labelled objects of samples.

    Args:
        samples: in the order of ``image_index``.
        use_difficult: whether those marked difficult are marked no longer.
    """
    truth = GroundTruth.from_samples(samples)
    return replace(truth, difficult=np.zeros_like(truth.difficult)) if use_difficult else truth


def detect_samples(
    predictor: Predictor,
    samples: Sequence[Sample],
    batch_size: int,
    on_progress: Progress | None,
    on_result: OnResult | None,
) -> tuple[list[Sample], list[Detections], list[str]]:
    """Samples that could be read, what was found in each, and why the others could not be read."""
    read, found, failed = [], [], []
    stream = predictor.stream((sample.image_path for sample in samples), batch_size)
    for done, (sample, result) in enumerate(zip(samples, stream, strict=True), 1):
        if isinstance(result, Failure):
            failed.append(str(result.error))
        else:
            read.append(sample)
            found.append(result.detections)
        if on_result:
            on_result(result)
        if on_progress:
            on_progress(done, len(samples))
    if samples and not read:
        raise DataError(f"none of the {len(samples)} images can be read; the first: {failed[0]}")
    return read, found, failed


def as_table(found: Sequence[Detections]) -> DetectionTable:
    """Detections of images, in their order, as one table."""
    return DetectionTable.concatenate(
        [
            DetectionTable(np.full(len(item), index), item.class_ids, item.boxes_xyxy, item.scores)
            for index, item in enumerate(found)
        ]
    )
