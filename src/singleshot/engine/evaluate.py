"""Run a detector over a labelled data set and measure what it finds."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from singleshot import data as datasets
from singleshot.backends.select import BackendName, Precision
from singleshot.data import DetectionDataset
from singleshot.detector import BATCH_SIZE, Detector, check_batch, load
from singleshot.errors import ConfigError, DataError
from singleshot.metrics import DetectionTable, GroundTruth, VocConfig, evaluate_detections
from singleshot.metrics.class_match import match_classes
from singleshot.metrics.evaluate import VOC
from singleshot.predict.runner import Failure, Predictor, StageTimes
from singleshot.report.result import EvalResult, Speed
from singleshot.structures import Sample

if TYPE_CHECKING:
    from singleshot.detections import Detections
    from singleshot.models.config import ModelSpec
    from singleshot.models.network import Network

MetricName = Literal["voc", "coco"]
ALL_METRICS: tuple[MetricName, ...] = get_args(MetricName)

SCORE_THRESHOLD = 0.01
"""Low enough for whole curves: on COCO the AP equals that of 1e-8 to four digits."""

HELD_OUT = ("test", "val", "valid", "validation", "dev")
"""Splits that are evaluated when none is asked for, best first."""

Progress = Callable[[int, int], None]
"""Called with the images done and the images in all."""


def evaluate(
    model: Detector | str | os.PathLike[str],
    data: DetectionDataset | str | os.PathLike[str],
    split: str | None = None,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    batch_size: int = BATCH_SIZE,
    backend: BackendName = "auto",
    precision: Precision = "auto",
    device: str = "auto",
    compile: bool = False,
    metrics: Collection[MetricName] = ALL_METRICS,
    voc: VocConfig = VOC,
    on_progress: Progress | None = None,
) -> EvalResult:
    """Evaluate a detector on a labelled data set.

    Args:
        model: a detector, a weights file, or ``coco``.
        data: an opened data set, or the path of one.
        split: which part of ``data`` when it is a path. ``None`` takes the held-out one (test, else val) where the data
            set has it, else everything; ``all`` takes everything.
        score_threshold: detections below are not looked at; keep it low, or the curves end early.
        batch_size: images that the network sees at once.
        backend, precision, device, compile: what runs the network, as in `Detector.predict`.
        metrics: ``voc`` (always computed: the curves need it), ``coco``.
        voc: dialect of VOC's rule.
        on_progress: called after each image.

    Returns:
        All numbers; ``result.save(folder)`` writes JSON and an HTML report.

    Raises:
        DataError: the data cannot be read, or shares no class with the model.
        WeightsError: the model cannot be read.
        ConfigError: a setting makes no sense.
    """
    detector = model if isinstance(model, Detector) else load(model)
    dataset = data if isinstance(data, DetectionDataset) else open_held_out(data, split)
    name = detector.spec.name if isinstance(model, Detector) else str(model)
    predictor = detector.predictor(
        score_threshold, backend=backend, precision=precision, device=device, compile=compile, images=len(dataset)
    )
    return evaluate_predictor(
        predictor,
        dataset,
        name=name,
        score_threshold=score_threshold,
        batch_size=batch_size,
        metrics=metrics,
        voc=voc,
        on_progress=on_progress,
    )


def evaluate_network(
    network: Network,
    spec: ModelSpec,
    dataset: DetectionDataset,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    batch_size: int = BATCH_SIZE,
    metrics: Collection[MetricName] = ALL_METRICS,
) -> EvalResult:
    """Evaluate a network in memory, on its device; for use during training. The network must be in eval mode.

    Args:
        network: the network.
        spec: what belongs to it: preprocessing, anchors, postprocessing, classes.
        dataset: opened data set.
        score_threshold, batch_size, metrics: as in `evaluate`.
    """
    from singleshot.backends.torch_backend import network_backend

    settings = spec.postprocess.model_copy(update={"score_threshold": score_threshold})
    return evaluate_predictor(
        Predictor(network_backend(network, spec, settings), spec.preprocess, spec.class_names, spec.class_ids),
        dataset,
        name=spec.name,
        score_threshold=score_threshold,
        batch_size=batch_size,
        metrics=metrics,
    )


def evaluate_predictor(
    predictor: Predictor,
    dataset: DetectionDataset,
    *,
    name: str = "",
    score_threshold: float = SCORE_THRESHOLD,
    batch_size: int = BATCH_SIZE,
    metrics: Collection[MetricName] = ALL_METRICS,
    voc: VocConfig = VOC,
    on_progress: Progress | None = None,
) -> EvalResult:
    """Evaluate whatever turns images into detections; `evaluate` and `evaluate_network` end here.

    Args:
        predictor: preprocessing, backend and class names.
        dataset: opened data set.
        name: of the detector, for the report.
        score_threshold: the predictor's, for the report.
        batch_size, metrics, voc, on_progress: as in `evaluate`.
    """
    unknown = sorted(set(metrics) - set(ALL_METRICS))
    if unknown:
        raise ConfigError(f"metrics: no metric '{unknown[0]}': choose from {', '.join(ALL_METRICS)}")
    classes = match_classes(predictor.class_names, dataset.class_map.names)
    begin = perf_counter()
    samples, found, failed = _detect(predictor, dataset.samples, check_batch(batch_size), on_progress)
    wall_s = perf_counter() - begin
    table = _as_table(found).relabel(classes.model_to_shared(len(predictor.class_names)))
    truth = GroundTruth.from_samples(samples).relabel(classes.data_to_shared(len(dataset.class_map)))
    return EvalResult(
        model=name,
        data=str(dataset.path),
        split=dataset.split,
        format=dataset.format,
        class_names=classes.names,
        only_model=classes.only_model,
        only_data=classes.only_data,
        samples=tuple(samples),
        truth=truth,
        detections=table,
        metrics=evaluate_detections(truth, table, len(classes.names), voc=voc, coco="coco" in metrics),
        voc=voc,
        score_threshold=score_threshold,
        speed=_speed(predictor.times, wall_s, len(samples), predictor.backend.name, batch_size),
        failed=tuple(failed),
    )


def open_held_out(path: str | os.PathLike[str], split: str | None = None) -> DetectionDataset:
    """Open the split to evaluate: the one asked for, else the held-out one, else (and for ``all``) everything.

    Raises:
        DataError: the data cannot be read or has no such split.
    """
    if split is None:
        known = datasets.splits(Path(path))
        split = next((name for name in HELD_OUT if name in known), None)
    return datasets.open(Path(path), None if split == "all" else split)


def _detect(
    predictor: Predictor, samples: Sequence[Sample], batch_size: int, on_progress: Progress | None
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
        if on_progress:
            on_progress(done, len(samples))
    if samples and not read:
        raise DataError(f"none of the {len(samples)} images can be read; the first: {failed[0]}")
    return read, found, failed


def _as_table(found: Sequence[Detections]) -> DetectionTable:
    return DetectionTable.concatenate(
        [
            DetectionTable(np.full(len(item), index), item.class_ids, item.boxes_xyxy, item.scores)
            for index, item in enumerate(found)
        ]
    )


def _speed(times: StageTimes, wall_s: float, images: int, backend: str, batch_size: int) -> Speed:
    per_image_ms = {stage: 1000 * seconds / max(images, 1) for stage, seconds in times.seconds.items()}
    return Speed(
        decode_ms=per_image_ms["decode"],
        preprocess_ms=per_image_ms["preprocess"],
        network_ms=per_image_ms["network"],
        postprocess_ms=per_image_ms["postprocess"],
        images_per_s=images / wall_s if wall_s else 0.0,
        backend=backend,
        batch_size=batch_size,
    )
