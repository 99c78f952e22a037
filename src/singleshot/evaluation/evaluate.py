"""Run a detector over a labelled data set and measure what it finds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Literal, get_args

from singleshot.core.lazy import lazy_module
from singleshot.core.sizes import parse_batch_size
from singleshot.data import Decisions, DetectionDataset
from singleshot.data.train_val import remarks
from singleshot.detector import BATCH_SIZE, Detector, load
from singleshot.errors import ConfigError
from singleshot.evaluation.collect import (
    Measurers,
    OnResult,
    Progress,
    as_table,
    detect_samples,
    detect_share,
    objects_of,
)
from singleshot.evaluation.measurable import check_measurable, open_measurable
from singleshot.evaluation.metrics import VocConfig, evaluate_detections
from singleshot.evaluation.metrics.class_match import match_classes
from singleshot.evaluation.metrics.coco import MAX_DETECTIONS
from singleshot.evaluation.metrics.measure import VOC
from singleshot.evaluation.numbers import Speed
from singleshot.evaluation.result import EvalResult
from singleshot.models.config import ModelSpec
from singleshot.prediction.pipeline import Predictor, StageTimes
from singleshot.prediction.settings import choose_postprocess
from singleshot.prediction.view_settings import view_plan
from singleshot.prediction.views import OVERLAP, ViewPlan
from singleshot.runtime.base import EngineBackend

if TYPE_CHECKING:
    import singleshot.models.network as networks
else:
    networks = lazy_module("singleshot.models.network")


MetricName = Literal["voc", "coco"]
ALL_METRICS: tuple[MetricName, ...] = get_args(MetricName)

SCORE_THRESHOLD = 0.01
"""Low enough for whole curves: on COCO the AP equals that of 1e-8 to four digits."""


def evaluate(
    model: Detector | str | os.PathLike[str],
    data: DetectionDataset | str | os.PathLike[str],
    split: str | None = None,
    *,
    format: str = "auto",
    score: float = SCORE_THRESHOLD,
    batch_size: int = BATCH_SIZE,
    backend: str = "auto",
    precision: str = "fp32",
    device: str = "auto",
    compile: bool = False,
    nms_iou: float | None = None,
    agnostic: bool = False,
    max_detections: int | None = None,
    top_k: int | None = None,
    tile: int | str | None = None,
    overlap: float = OVERLAP,
    merge: str = "nms",
    augment_test: str | None = None,
    metrics: Collection[MetricName] = ALL_METRICS,
    iou: float = VOC.min_iou,
    strict: bool = False,
    inclusive: bool = False,
    use_difficult: bool = False,
    classes: Sequence[str] | None = None,
    lower_names: bool = False,
    decisions: Decisions | str | os.PathLike[str] | None = None,
    on_progress: Progress | None = None,
    on_result: OnResult | None = None,
    on_note: Callable[[str], object] = warnings.warn,
) -> EvalResult:
    """Evaluate a detector on a labelled data set. Every argument is an option of ``singleshot eval`` of the same name.

    Args:
        model: a detector, a weights file, or ``coco``.
        data: an opened data set, or the path of one.
        split: which part of ``data`` when it is a path. ``None`` takes the held-out one (test, else val) where the data
            set has it, else everything; ``all`` takes everything.
        format: of the labels, when ``data`` is a path; ``auto`` takes the one that explains most images.
        score: detections below are not looked at; keep it low, or the curves end early.
        batch_size: images that the network sees at once.
        backend, device, compile: what runs the network, as in `Detector.predict`.
        precision: float32 unless asked otherwise, so that numbers can be compared; ``auto`` is what `Detector.predict`
            would choose.
        nms_iou: overlap above which the weaker of two boxes of a class goes; the model's own by default.
        agnostic: whether the weaker of two boxes goes whatever their classes.
        max_detections: most detections per image; the model's own by default. Above 100, COCO's numbers also count as
            many of a class in an image, which is then no longer COCO's own rule.
        top_k: candidates of a class that enter NMS (MXNet's models: of an image); the model's own by default.
        tile, overlap, merge, augment_test: look at parts of each image, as ``predict --tile`` does.
        metrics: ``voc`` (always computed: the curves need it), ``coco``.
        iou: overlap that counts by VOC's rule.
        strict: the overlap must exceed ``iou`` (Python ports of VOC).
        inclusive: widths and heights grow by 1 pixel (VOC devkit).
        use_difficult: objects marked difficult count as any others.
        classes: the classes to measure, when ``data`` is a path; ``None`` takes the data set's.
        lower_names: take the data set's class names in lower case, when ``data`` is a path.
        decisions: about the labels, a file of ``singleshot browse``, when ``data`` is a path.
        on_progress: called after each image.
        on_result: called with each image's result, such as the ``write`` of a sink.
        on_note: is told which tiles ``tile="auto"`` chose, and what an exported file does differently.

    Returns:
        All numbers; ``result.save(folder)`` writes JSON and an HTML report.

    Raises:
        DataError: the data cannot be read, shares no class with the model, or has no object of such a class.
        WeightsError: the model cannot be read.
        ConfigError: a setting makes no sense.
    """
    detector = model if isinstance(model, Detector) else load(model)
    dataset = open_measurable(data, split, format, classes, lower_names, decisions)
    check_measurable(dataset, detector.class_names, use_difficult)
    name = detector.spec.name if isinstance(model, Detector) else str(model)
    ends_at_picture = _ends_at_picture(detector)
    if ends_at_picture:
        on_note(f"{name}: the file ends boxes at the picture, which its weights do not: AP may differ from theirs")
    predictor = detector.predictor(
        score,
        nms_iou=nms_iou,
        max_detections=max_detections,
        agnostic=agnostic,
        top_k=top_k,
        clip=True if ends_at_picture else None,
        backend=backend,
        precision=precision,
        device=device,
        compile=compile,
        images=len(dataset),
        views=view_plan(tile, overlap, merge, augment_test, agnostic, detector.spec, on_note),
    )
    return evaluate_predictor(
        predictor,
        dataset,
        name=name,
        score=score,
        batch_size=batch_size,
        metrics=metrics,
        voc=VocConfig(min_iou=iou, compare=">" if strict else ">=", pixel_inclusive=inclusive),
        max_detections=max_detections or detector.spec.postprocess.max_detections,
        coco_detections=max(max_detections or 0, MAX_DETECTIONS),
        use_difficult=use_difficult,
        on_progress=on_progress,
        on_result=on_result,
    )


def evaluate_network(
    network: networks.Network,
    spec: ModelSpec,
    dataset: DetectionDataset,
    *,
    score: float = SCORE_THRESHOLD,
    batch_size: int = BATCH_SIZE,
    nms_iou: float | None = None,
    agnostic: bool = False,
    max_detections: int | None = None,
    top_k: int | None = None,
    metrics: Collection[MetricName] = ALL_METRICS,
    iou: float = VOC.min_iou,
    strict: bool = False,
    use_difficult: bool = False,
    views: ViewPlan | None = None,
    sharing: Measurers | None = None,
) -> EvalResult:
    """Evaluate a network in memory, on its device; for use during training. The network must be in eval mode.

    Args:
        network: the network.
        spec: what belongs to it: preprocessing, anchors, postprocessing, classes.
        dataset: opened data set.
        score, batch_size, nms_iou, agnostic, max_detections, top_k, metrics, iou, strict, use_difficult: as in
            `evaluate`.
        views: how each image is looked at; by default once, as a whole.
        sharing: processes that measure the same network together, and all get the whole result.
    """
    from singleshot.runtime.torch_engine import network_backend

    settings = choose_postprocess(
        spec.postprocess, score, nms_iou, max_detections, agnostic=agnostic, top_k=top_k, clip=None
    )
    return evaluate_predictor(
        Predictor(
            network_backend(network, spec, settings),
            spec.preprocess,
            spec.class_names,
            spec.class_ids,
            most=settings.max_detections,
            views=views or ViewPlan(),
        ),
        dataset,
        name=spec.name,
        score=score,
        batch_size=batch_size,
        metrics=metrics,
        voc=VocConfig(min_iou=iou, compare=">" if strict else ">="),
        max_detections=settings.max_detections,
        coco_detections=max(max_detections or 0, MAX_DETECTIONS),
        use_difficult=use_difficult,
        sharing=sharing,
    )


def evaluate_predictor(
    predictor: Predictor,
    dataset: DetectionDataset,
    *,
    name: str = "",
    score: float = SCORE_THRESHOLD,
    batch_size: int = BATCH_SIZE,
    metrics: Collection[MetricName] = ALL_METRICS,
    voc: VocConfig = VOC,
    max_detections: int | None = None,
    coco_detections: int = MAX_DETECTIONS,
    use_difficult: bool = False,
    on_progress: Progress | None = None,
    on_result: OnResult | None = None,
    sharing: Measurers | None = None,
) -> EvalResult:
    """Evaluate whatever turns images into detections; `evaluate` and `evaluate_network` end here.

    Args:
        predictor: preprocessing, backend and class names.
        dataset: opened data set.
        name: of the detector, for the report.
        score: the predictor's, for the report.
        voc: dialect of VOC's rule.
        max_detections: most detections that the predictor gives for an image, for the report.
        coco_detections: detections of a class that COCO's numbers count in an image; 100 is COCO's own.
        batch_size, metrics, use_difficult, on_progress, on_result: as in `evaluate`.
        sharing: processes that each look at a part of the images and all get the whole result; they call neither
            ``on_progress`` nor ``on_result``.
    """
    unknown = sorted(set(metrics) - set(ALL_METRICS))
    if unknown:
        raise ConfigError(f"metrics: no metric '{unknown[0]}': choose from {', '.join(ALL_METRICS)}")
    classes = match_classes(predictor.class_names, dataset.class_map.names)
    begin = perf_counter()
    together = parse_batch_size(batch_size)
    samples, found, failed = (
        detect_share(predictor, dataset.samples, together, sharing)
        if sharing is not None and sharing.size > 1
        else detect_samples(predictor, dataset.samples, together, on_progress, on_result)
    )
    wall_s = perf_counter() - begin
    table = as_table(found).relabel(classes.model_to_shared(len(predictor.class_names)))
    truth = objects_of(samples, use_difficult).relabel(classes.data_to_shared(len(dataset.class_map)))
    backend = predictor.backend
    count, coco = len(classes.names), "coco" in metrics
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
        metrics=evaluate_detections(truth, table, count, voc=voc, coco=coco, max_detections=coco_detections),
        voc=voc,
        score_threshold=score,
        speed=_speed(predictor.times, wall_s, len(samples), backend.name, batch_size),
        failed=tuple(failed),
        loose=classes.loose,
        max_detections=max_detections,
        postprocess=backend.settings if isinstance(backend, EngineBackend) else None,
        use_difficult=use_difficult,
        notes=(*remarks(dataset), *predictor.views.lines()),
    )


def _ends_at_picture(detector: Detector) -> bool:
    """Whether an exported file cuts boxes that its weights would let reach beyond the picture."""
    file = detector.exported
    return file is not None and file.info.level == "end2end" and detector.spec.postprocess.clip == "none"


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
