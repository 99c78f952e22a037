"""An evaluation in words: its headline, what a reader of the numbers must know, how it was measured."""

from __future__ import annotations

import math

import numpy as np

from singleshot.core.settings import PostprocessConfig
from singleshot.core.wording import counted, listed
from singleshot.evaluation.metrics.coco import best_possible_ap
from singleshot.evaluation.metrics.diagnosis import diagnose
from singleshot.evaluation.numbers import Measured


def hints(result: Measured) -> tuple[str, ...]:
    """What is probably wrong when the numbers are very low; empty when they are not."""
    sizes = np.array([sample.image_size_hw for sample in result.samples]).reshape(-1, 2)
    return diagnose(result.truth, result.detections, result.voc_area, sizes)


def headline(result: Measured) -> str:
    """The main numbers with what they were measured on, as one sentence would say it."""
    measured = f"on {counted(len(result.samples), 'image')}, {counted(result.objects, 'object')}"
    if not result.coco:
        return f"VOC AP {_shown(result.voc_area)} {measured}"
    numbers = [f"{name} {_shown(result.coco[name])}{interval_text(result, name)}" for name in ("AP", "AP50")]
    return f"COCO {', '.join(numbers)} {measured}"


def interval_text(result: Measured, name: str) -> str:
    """`` (95 %: 0.410 to 0.560)`` for ``AP`` or ``AP50``; empty where there is no interval."""
    if name not in result.intervals:
        return ""
    low, high = result.intervals[name]
    return f" (95 %: {low:.3f} to {high:.3f})"


def remarks(result: Measured) -> tuple[str, ...]:
    """What a reader of the numbers must know: why they are low, what bounds them, what was left out."""
    found = [*hints(result), *_bounds(result)]
    if result.loose:
        pairs = [f"'{own}' of the model is '{theirs}' of the data" for own, theirs in result.loose]
        found.append(f"Classes matched although spelt differently: {listed(pairs)}.")
    absent = [item.name for item in result.per_class if not item.objects]
    if absent and result.objects:
        found.append(f"No object of these classes here, so nothing is measured of them: {listed(absent)}.")
    if result.only_data:
        found.append(f"Left out, since the model does not know them: {listed(result.only_data)}.")
    if result.only_model:
        found.append(f"Left out, since the data set does not have them: {listed(result.only_model)}.")
    if result.failed:
        found.append(f"{counted(len(result.failed), 'image')} left out with their objects: {listed(result.failed)}")
    return tuple(found)


def _bounds(result: Measured) -> list[str]:
    """Which numbers cannot reach 1, whatever the detector finds."""
    found = []
    coco = result.metrics.coco
    best = best_possible_ap(result.truth, len(result.class_names), coco.max_detections) if coco else 1.0
    cells = result.truth.image_index * max(len(result.class_names), 1) + result.truth.class_ids
    of_class, in_image = (_most_frequent(ids[~result.truth.ignored]) for ids in (cells, result.truth.image_index))
    if coco and best < 1:
        found.append(
            f"COCO counts at most {coco.max_detections} detections of a class in an image, and an image here holds "
            f"{of_class:,} objects of one: COCO AP cannot exceed {best:.3f}. VOC's numbers are not concerned; "
            f"`max_detections={in_image}` counts more."
        )
    if result.max_detections is not None and in_image > result.max_detections:
        found.append(
            f"The detector gives at most {result.max_detections} detections for an image, and an image here holds "
            f"{in_image:,} objects: recall and AP by both rules are bounded; `max_detections={in_image}` gives "
            "more."
        )
    return found


def convention(result: Measured) -> str:
    """How boxes were read and measured, in words."""
    parts = ["Boxes are continuous corners in pixels of the upright image."]
    if result.format == "voc":
        parts.append("VOC's one-based, inclusive corners were read as (xmin - 1, ymin - 1, xmax, ymax).")
    border = "with 1 pixel added to widths and heights" if result.voc.pixel_inclusive else "without a border pixel"
    parts.append(f"VOC's rule: IoU {result.voc.compare} {result.voc.min_iou:g}, measured {border}.")
    ignored = "Crowd objects" if result.use_difficult else "Difficult and crowd objects"
    parts.append(f"{ignored} are neither missed nor do detections of them count.")
    if result.use_difficult:
        parts.append("Difficult objects count as any others.")
    if result.metrics.coco:
        most = result.metrics.coco.max_detections
        parts.append(f"COCO's rule: IoU 0.50 to 0.95, 101 recalls, at most {most} detections of a class in an image.")
    if result.intervals:
        parts.append("Intervals: 95 %, by a bootstrap over the images.")
    parts.append(f"Detections below a score of {result.score_threshold:g} were not looked at.")
    if result.postprocess:
        parts.append(_nms(result.postprocess))
    return " ".join(parts)


def _nms(settings: PostprocessConfig) -> str:
    within = "whatever the classes" if settings.class_agnostic else "within a class"
    of = "an image" if settings.top_k_scope == "image" else "a class"
    top = f"the {settings.pre_nms_top_k} best candidates of {of}" if settings.pre_nms_top_k else "all candidates"
    return f"NMS at an IoU of {settings.nms_iou:g} {within}, of {top}; at most {settings.max_detections} detections."


def _most_frequent(ids: np.ndarray) -> int:
    """How often the most frequent id occurs."""
    return int(np.bincount(ids).max(initial=0))


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
