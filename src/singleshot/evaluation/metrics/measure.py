"""All numbers of a detector on a data set, from flat arrays of objects and detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from singleshot.core.settings import Frozen, UnitFloat
from singleshot.evaluation.metrics.coco import MAX_DETECTIONS, CocoMetrics, coco_metrics
from singleshot.evaluation.metrics.confusion import confusion_matrix
from singleshot.evaluation.metrics.curves import OperatingPoint, best_common_threshold, best_point, mean_of_defined
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth
from singleshot.evaluation.metrics.voc import Curve, Matching, average_precision, class_curves, match_voc

MetricName = Literal["voc", "coco"]


class VocConfig(Frozen):
    """VOC's rule and its dialects; see `singleshot.evaluation.metrics.voc.match_voc`.

    Attributes:
        min_iou: overlap that counts.
        compare: ``>=`` (VOC devkit, Caffe) or ``>`` (Python ports, mxnet-ssd).
        pixel_inclusive: widths and heights grow by 1 (VOC devkit, py-faster-rcnn).
    """

    min_iou: UnitFloat = 0.5
    compare: Literal[">=", ">"] = ">="
    pixel_inclusive: bool = False


VOC = VocConfig()


@dataclass(frozen=True, slots=True)
class DetectionMetrics:
    """What `evaluate_detections` finds. Classes without objects have NaN and stay out of the means.

    Attributes:
        voc_07: mean of the 11-point APs.
        voc_area: mean of the areas below the precision envelopes.
        class_voc_07, class_voc_area: the same by class, ``[C]``.
        curves: precision and recall by class.
        points: best F1 and its threshold by class.
        best_threshold: score threshold with the best mean F1 of all classes.
        best_f1: that mean F1.
        confusion: counts at ``best_threshold``, background last, ``[C + 1, C + 1]``.
        matching: outcome of each detection.
        coco: COCO's numbers; ``None`` if they were not asked for.
    """

    voc_07: float
    voc_area: float
    class_voc_07: np.ndarray
    class_voc_area: np.ndarray
    curves: tuple[Curve, ...]
    points: tuple[OperatingPoint, ...]
    best_threshold: float
    best_f1: float
    confusion: np.ndarray
    matching: Matching
    coco: CocoMetrics | None


def evaluate_detections(
    truth: GroundTruth,
    detections: DetectionTable,
    class_count: int,
    *,
    voc: VocConfig = VOC,
    coco: bool = True,
    max_detections: int = MAX_DETECTIONS,
) -> DetectionMetrics:
    """Compute VOC's and COCO's metrics, curves and the confusion matrix. No Python loop over images.

    Args:
        truth: objects of the data set.
        detections: detections down to a low score (0.01), so that the curves are whole.
        class_count: ``C``; class ids of both tables are below it.
        voc: dialect of VOC's rule; its overlap also makes the confusion matrix.
        coco: also compute COCO's numbers (most of the time).
        max_detections: detections of a class that COCO's numbers count in an image.

    Returns:
        The numbers.

    Raises:
        ValueError: a class id is not below ``class_count``, or an image index not below the number of images.
    """
    for name, ids, limit in (
        ("object class", truth.class_ids, class_count),
        ("detection class", detections.class_ids, class_count),
        ("detection image_index", detections.image_index, truth.image_count),
    ):
        if len(ids) and ids.max() >= limit:
            raise ValueError(f"{name} {ids.max()} is not below {limit}")
    matching = match_voc(truth, detections, **voc.model_dump())
    curves = class_curves(truth, detections, matching, class_count)
    threshold, f1 = best_common_threshold(curves)
    eleven = np.array([average_precision(curve, "11point") for curve in curves])
    area = np.array([average_precision(curve, "area") for curve in curves])
    return DetectionMetrics(
        voc_07=mean_of_defined(eleven),
        voc_area=mean_of_defined(area),
        class_voc_07=eleven,
        class_voc_area=area,
        curves=curves,
        points=tuple(best_point(curve) for curve in curves),
        best_threshold=threshold,
        best_f1=f1,
        confusion=confusion_matrix(truth, detections, class_count, score_threshold=threshold, min_iou=voc.min_iou),
        matching=matching,
        coco=coco_metrics(truth, detections, class_count, max_detections) if coco else None,
    )
