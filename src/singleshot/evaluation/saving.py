"""Detections of an evaluation, written while it runs, by the sinks that ``predict`` has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from singleshot.data import DetectionDataset
from singleshot.models.config import ModelSpec
from singleshot.prediction.frames import Result
from singleshot.prediction.job import OutputProblem, send
from singleshot.prediction.sinks import TrueObject, Truth, open_sinks

SECOND_NAMES = {"voc": "voc-results"}
"""What an evaluation calls a sink, beside its own name."""


@contextmanager
def saving(
    kinds: Sequence[str],
    out: str | os.PathLike[str],
    dataset: DetectionDataset,
    spec: ModelSpec,
    problems: list[OutputProblem],
    *,
    overwrite: bool = False,
) -> Iterator[Callable[[Result], None]]:
    """What `singleshot.evaluate` takes as ``on_result``, to write the detections of every image.

    Args:
        kinds: names in `SINKS`; ``voc`` is ``voc-results``.
        out: the folder.
        dataset: what will be evaluated.
        spec: the detector's, for the names of its classes.
        problems: gets what could not be written.
        overwrite: whether files that are there may be replaced.

    Raises:
        ConfigError: an unknown kind.
        OutputError: something is there that may not be replaced.
    """
    names = [SECOND_NAMES.get(kind, kind) for kind in kinds]
    images = [sample.image_path for sample in dataset]
    sinks = open_sinks(
        names,
        Path(out),
        images,
        spec.class_names,
        spec.class_ids,
        overwrite=overwrite,
        split=dataset.split or "",
        truth=truth_of(dataset),
    )
    with sinks as opened:

        def on_result(result: Result) -> None:
            for sink in opened:
                send(result, sink, problems)

        yield on_result


def truth_of(dataset: DetectionDataset) -> Truth:
    """The labelled objects of a data set by the paths of its images."""
    names = dataset.class_map.names
    return {
        sample.image_path: [
            TrueObject(names[class_id], (x1, y1, x2, y2))
            for class_id, (x1, y1, x2, y2) in zip(sample.class_ids, sample.boxes_xyxy.tolist(), strict=True)
        ]
        for sample in dataset
    }
