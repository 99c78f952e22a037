"""What an evaluation compares: objects and detections of all images, in two flat tables."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

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


class Measurers(Protocol):
    """Processes that measure together."""

    @property
    def rank(self) -> int:
        """Number of this process."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather_bytes(self, content: bytes) -> list[bytes]:
        """The bytes of all of them, by rank."""


def detect_share(
    predictor: Predictor, samples: Sequence[Sample], batch_size: int, sharing: Measurers
) -> tuple[list[Sample], list[Detections], list[str]]:
    """What `detect_samples` gives, where each of several processes looks at its batches only; all get the whole.

    The batches are those of one process, so that the numbers are the same to the last digit.
    """
    places = [place for place in range(len(samples)) if place // batch_size % sharing.size == sharing.rank]
    stream = predictor.stream((samples[place].image_path for place in places), batch_size)
    errors: dict[int, str] = {}
    found: dict[int, Detections] = {}
    for place, result in zip(places, stream, strict=True):
        if isinstance(result, Failure):
            errors[place] = str(result.error)
        else:
            found[place] = result.detections
    for content in sharing.gather_bytes(_packed(found, errors)):
        _unpack(content, samples, predictor, found, errors)
    failed = [errors[place] for place in sorted(errors)]
    if samples and not found:
        raise DataError(f"none of the {len(samples)} images can be read; the first: {failed[0]}")
    read = sorted(found)
    return [samples[place] for place in read], [found[place] for place in read], failed


def _packed(found: Mapping[int, Detections], errors: Mapping[int, str]) -> bytes:
    """Detections by image and reasons, as NumPy's archive of plain arrays."""
    buffer, items = io.BytesIO(), list(found.values())
    np.savez(
        buffer,
        places=np.array(list(found), np.int64),
        counts=np.array([len(item) for item in items], np.int64),
        sizes_hw=np.array([item.image_size_hw for item in items], np.int64).reshape(-1, 2),
        boxes_xyxy=np.concatenate([np.zeros((0, 4), np.float32), *(item.boxes_xyxy for item in items)]),
        scores=np.concatenate([np.zeros(0, np.float32), *(item.scores for item in items)]),
        class_ids=np.concatenate([np.zeros(0, np.int64), *(item.class_ids for item in items)]),
        errors=np.frombuffer(json.dumps(list(errors.items())).encode(), np.uint8),
    )
    return buffer.getvalue()


def _unpack(
    content: bytes,
    samples: Sequence[Sample],
    predictor: Predictor,
    found: dict[int, Detections],
    errors: dict[int, str],
) -> None:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        ends = arrays["counts"].cumsum().tolist()
        columns = [arrays[name] for name in ("boxes_xyxy", "scores", "class_ids")]
        for place, begin, end, size_hw in zip(
            arrays["places"].tolist(), [0, *ends], ends, arrays["sizes_hw"].tolist(), strict=False
        ):
            boxes, scores, ids = (column[begin:end] for column in columns)
            found[place] = Detections(
                boxes, scores, ids, predictor.class_names, tuple(size_hw), samples[place].image_path,
                predictor.category_ids,
            )  # fmt: skip
        errors.update((place, reason) for place, reason in json.loads(bytes(arrays["errors"])))


def as_table(found: Sequence[Detections]) -> DetectionTable:
    """Detections of images, in their order, as one table."""
    return DetectionTable.concatenate(
        [
            DetectionTable(np.full(len(item), index), item.class_ids, item.boxes_xyxy, item.scores)
            for index, item in enumerate(found)
        ]
    )
