"""What a detector's view of labelled images tells: of the labels, and of the detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from singleshot.core.wording import counted
from singleshot.detector import Detector
from singleshot.doctor.evidence import Evidence
from singleshot.doctor.findings import Finding, Place, finding, place_of
from singleshot.doctor.opinions import LEAST_SCORE
from singleshot.doctor.suspects import (
    empty_boxes,
    likely_classes,
    misplaced_boxes,
    missing_labels,
    wrong_classes,
)
from singleshot.evaluation.metrics import DetectionMetrics, evaluate_detections
from singleshot.evaluation.metrics.diagnosis import diagnose
from singleshot.evaluation.metrics.voc import Curve
from singleshot.training.anchor_comparison import SIZES
from singleshot.training.checks import RECALL_IOU, best_ious, network_boxes

CONFUSED_SHARE, CONFUSED_OBJECTS = 0.1, 5
"""So many of a class's objects that are found as another class are worth telling."""
LOW_RECALL, ENOUGH_OBJECTS = 0.5, 10
THRESHOLD_GAIN, COMMON_GAIN = 0.05, 0.01
"""F1 that another score must gain to be worth telling: of one class, and on average over all."""
SHOWN_PLACES = 6


def label_suspects(evidence: Evidence) -> Iterator[Finding]:
    """Labels that the detector contradicts, and objects that nobody labelled."""
    names, truth, found = evidence.classes.names, evidence.truth, evidence.detections

    def place(row: int, *extra: int, note: str = "") -> Place:
        sample = evidence.samples[truth.image_index[row]]
        boxes = [(found.boxes_xyxy[i], f"{names[found.class_ids[i]]} {found.scores[i]:.2f}") for i in extra]
        return place_of(sample, (truth.boxes_xyxy[row], names[truth.class_ids[row]] + note), *boxes)

    def source(row: int) -> str:
        return str(evidence.samples[truth.image_index[row]].source)

    likely = likely_classes(evidence)
    for row, suspicion, _ in zip(*wrong_classes(evidence), strict=True):
        other = names[likely[row]]
        message = f"labelled {names[truth.class_ids[row]]}, looks like {other}: {_at(truth.boxes_xyxy[row])}"
        yield finding("wrong-class", message, source(row), (place(row, note=f" -> {other}?"),), suspicion)
    for row, suspicion, _ in zip(*empty_boxes(evidence), strict=True):
        message = f"{names[truth.class_ids[row]]}: nothing is seen in {_at(truth.boxes_xyxy[row])}"
        yield finding("no-object", message, source(row), (place(row),), suspicion)
    for row, suspicion, partner in zip(*misplaced_boxes(evidence), strict=True):
        name, score = names[truth.class_ids[row]], found.scores[partner]
        message = f"{name}: {_at(truth.boxes_xyxy[row])} lies beside a {name} of score {score:.2f}"
        yield finding("misplaced-box", message, source(row), (place(row, int(partner)),), suspicion)
    yield from _unlabelled(evidence)


def _unlabelled(evidence: Evidence) -> Iterator[Finding]:
    """Missing labels one by one; those of an image without any label as one."""
    names, found = evidence.classes.names, evidence.detections
    by_image: dict[int, list[int]] = {}
    for row, suspicion, _ in zip(*missing_labels(evidence), strict=True):
        index = int(found.image_index[row])
        sample, name = evidence.samples[index], names[found.class_ids[row]]
        if not len(sample):
            by_image.setdefault(index, []).append(int(row))
            continue
        shown = place_of(sample, (found.boxes_xyxy[row], f"{name} {found.scores[row]:.2f}"))
        message = f"no label, looks like {name} ({found.scores[row]:.2f}): {_at(found.boxes_xyxy[row])}"
        yield finding("missing-label", message, sample.source or sample.image_path, (shown,), suspicion)
    for index, rows in by_image.items():
        sample = evidence.samples[index]
        boxes = [(found.boxes_xyxy[row], f"{names[found.class_ids[row]]} {found.scores[row]:.2f}") for row in rows]
        what = ", ".join(dict.fromkeys(names[found.class_ids[row]] for row in rows))
        message = f"{sample.image_path.name} has no label and likely shows {what}"
        shown = place_of(sample, *boxes)
        yield finding("unlabelled-image", message, sample.image_path, (shown,), float(found.scores[rows].max()))


def detector_faults(evidence: Evidence, where: Path, usual_score: float) -> Iterator[Finding]:
    """Which classes the detector confuses, which sizes it misses, and which scores suit it.

    Args:
        evidence: of all images that are measured on.
        where: the data set.
        usual_score: least confidence of a detection where nobody asks for one.
    """
    truth, found, names = evidence.truth, evidence.detections, evidence.classes.names
    metrics = evaluate_detections(truth, found, len(names), coco=False)
    sizes_hw = np.array([sample.image_size_hw for sample in evidence.samples]).reshape(-1, 2)
    average = 0.0 if np.isnan(metrics.voc_area) else metrics.voc_area
    for sentence in diagnose(truth, found, average, sizes_hw):
        yield finding("low-ap", sentence, where)
    yield from _confused(metrics, names, where)
    yield from _missed_sizes(evidence, metrics, where)
    yield from _thresholds(metrics, names, where, usual_score)


def _confused(metrics: DetectionMetrics, names: Sequence[str], where: Path) -> Iterator[Finding]:
    counts = metrics.confusion[:-1, :-1]
    found = metrics.confusion[:-1].sum(axis=1)
    for one, other in np.argwhere(counts >= CONFUSED_OBJECTS):
        share = counts[one, other] / max(found[one], 1)
        if one != other and share >= CONFUSED_SHARE:
            message = f"{counts[one, other]} of {found[one]} {names[one]} ({share:.0%}) are found as {names[other]}"
            yield finding("confused-classes", message, where, suspicion=share)


def _missed_sizes(evidence: Evidence, metrics: DetectionMetrics, where: Path) -> Iterator[Finding]:
    truth, found = evidence.truth, evidence.detections
    right = (metrics.matching.outcome == 1) & (found.scores >= metrics.best_threshold)
    hit = np.zeros(len(truth), dtype=bool)
    hit[metrics.matching.objects[right]] = True
    for title, low, high in SIZES:
        own = ~truth.ignored & (truth.areas >= low) & (truth.areas < high)
        recall = hit[own].mean() if own.any() else 1.0
        if own.sum() >= ENOUGH_OBJECTS and recall < LOW_RECALL:
            message = f"{title}: {recall:.0%} of {counted(int(own.sum()), 'object')} are found"
            yield finding(
                "missed-size", f"{message} at score {metrics.best_threshold:.2f}", where, suspicion=1 - recall
            )


def _thresholds(metrics: DetectionMetrics, names: Sequence[str], where: Path, usual_score: float) -> Iterator[Finding]:
    if not metrics.best_f1 > 0:
        return
    common = max(metrics.best_threshold, LEAST_SCORE)  # nothing weaker was looked at
    usual_f1 = float(np.mean([_f1_at(curve, usual_score) for curve in metrics.curves if curve.objects]))
    if metrics.best_f1 - usual_f1 >= COMMON_GAIN:
        message = (
            f"all classes: {common:.2f} gives the best mean F1 ({metrics.best_f1:.2f}), {usual_score:g} {usual_f1:.2f}"
        )
        yield finding("threshold", message, where)
    for name, point, curve in zip(names, metrics.points, metrics.curves, strict=True):
        usual = _f1_at(curve, common)
        if curve.objects >= ENOUGH_OBJECTS and point.f1 - usual >= THRESHOLD_GAIN:
            message = f"{name}: {point.threshold:.2f} gives F1 {point.f1:.2f}, the common {common:.2f} {usual:.2f}"
            yield finding("threshold", message, where, suspicion=float(point.f1 - usual))


def _f1_at(curve: Curve, score: float) -> float:
    kept = int((curve.scores >= score).sum())
    return float(2 * curve.right[kept - 1] / (kept + curve.objects)) if kept else 0.0


def uncovered_objects(detector: Detector, evidence: Evidence, where: Path) -> Iterator[Finding]:
    """Classes most of whose objects overlap no default box by half, the worst objects shown."""
    names, samples = evidence.classes.names, evidence.samples
    boxes, _ = network_boxes(samples, detector.spec.preprocess.size_hw)
    everyone = np.concatenate([np.zeros(0, bool), *(~sample.iscrowd for sample in samples)])
    places = np.full(len(everyone), -1)
    places[everyone] = np.arange(len(boxes))
    starts = np.cumsum([0, *(len(sample) for sample in samples)])
    truth = evidence.truth
    rows = places[starts[truth.image_index] + evidence.objects]  # of each object of a shared class; -1 for a crowd
    best = best_ious(boxes[rows[rows >= 0]], detector.anchors())
    ious = np.full(len(truth), np.nan)
    ious[rows >= 0] = best
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    for class_id, name in enumerate(names):
        own = np.flatnonzero((truth.class_ids == class_id) & ~np.isnan(ious))
        recall = float((ious[own] >= RECALL_IOU).mean()) if len(own) else 1.0
        if len(own) < ENOUGH_OBJECTS or recall >= LOW_RECALL:
            continue
        message = (
            f"{name}: {recall:.0%} of {counted(len(own), 'object')} overlap a default box by {RECALL_IOU:g} "
            f"(median side {np.median(sides[rows[own]]):.0f} pixels of the network input)"
        )
        worst = own[np.argsort(ious[own], kind="stable")][:SHOWN_PLACES]
        shown = [
            place_of(samples[truth.image_index[row]], (truth.boxes_xyxy[row], f"{name}: IoU {ious[row]:.2f}"))
            for row in worst
        ]
        yield finding("uncovered", message, where, shown, 1 - recall)


def _at(box: np.ndarray) -> str:
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    return f"{x2 - x1} x {y2 - y1} pixels at {x1}, {y1}"
