"""PASCAL VOC's evaluation: matching, precision and recall, and three areas below their curve.

Sources: VOC devkit 2007 and 2012; Caffe's ``DetectionEvaluate`` for the names of the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from singleshot.evaluation.metrics.overlaps import best_of_segments, overlapping_pairs, segment_starts
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth

RIGHT, WRONG, IGNORED = 1, 0, -1


class Matching(NamedTuple):
    """What became of each detection.

    Attributes:
        outcome: 1 right, 0 wrong, -1 neither (it found a difficult object), ``[D]`` int8.
        objects: the object that a right or ignored detection found, else -1, ``[D]`` int64.
    """

    outcome: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall of one class after each counted detection, best score first.

    Attributes:
        scores: ``[K]``, falling.
        right: right detections so far, ``[K]`` int64.
        objects: objects to find.
    """

    scores: np.ndarray
    right: np.ndarray
    objects: int

    @property
    def precision(self) -> np.ndarray:
        """Share of the detections so far that are right, ``[K]``."""
        return np.asarray(self.right / np.arange(1, len(self.right) + 1))

    @property
    def recall(self) -> np.ndarray:
        """Share of the objects found so far, ``[K]``; NaN without objects."""
        return self.right / self.objects if self.objects else np.full(len(self.right), np.nan)


def match_voc(
    truth: GroundTruth,
    detections: DetectionTable,
    *,
    min_iou: float = 0.5,
    compare: Literal[">=", ">"] = ">=",
    pixel_inclusive: bool = False,
) -> Matching:
    """Judge every detection by VOC's rule.

    A detection looks only at the object of its image and class that it overlaps most. Of the detections that look at
    the same object with enough overlap, the one with the best score is right and the others are wrong. So nothing
    depends on what happened before, and all images and classes are judged in one pass.

    Args:
        truth: objects; difficult and crowd ones are ignored.
        detections: detections in any order.
        min_iou: overlap that counts.
        compare: whether ``min_iou`` itself counts: ``>=`` (VOC devkit, Caffe) or ``>`` (Python ports, mxnet-ssd).
        pixel_inclusive: add 1 to widths and heights (VOC devkit, py-faster-rcnn) or not (Caffe, mxnet-ssd).

    Returns:
        Outcomes and objects by detection.
    """
    least = min_iou if compare == ">=" else np.nextafter(min_iou, 2)
    pairs = overlapping_pairs(truth, detections, least, pixel_inclusive=pixel_inclusive)
    best = best_of_segments(pairs.overlaps, segment_starts(pairs.detections))
    finders, found = pairs.detections[best], pairs.objects[best]
    by_score = np.argsort(-detections.scores[finders], kind="stable")
    finders, found = finders[by_score], found[by_score]
    outcome = np.zeros(len(detections), dtype=np.int8)
    objects = np.full(len(detections), -1, dtype=np.int64)
    _, first = np.unique(found, return_index=True)
    outcome[finders[first]] = RIGHT
    objects[finders[first]] = found[first]
    ignored = truth.ignored[found]
    outcome[finders[ignored]] = IGNORED
    objects[finders[ignored]] = found[ignored]
    return Matching(outcome, objects)


def class_curves(
    truth: GroundTruth, detections: DetectionTable, matching: Matching, class_count: int
) -> tuple[Curve, ...]:
    """Precision and recall of each class; ignored objects and detections do not count."""
    counted = np.flatnonzero(matching.outcome != IGNORED)
    order = counted[np.lexsort((-detections.scores[counted], detections.class_ids[counted]))]
    edges = np.searchsorted(detections.class_ids[order], np.arange(class_count + 1))
    objects = np.bincount(truth.class_ids[~truth.ignored], minlength=class_count)
    scores, right = detections.scores[order], (matching.outcome[order] == RIGHT).astype(np.int64)
    return tuple(
        Curve(scores[start:stop], right[start:stop].cumsum(), int(objects[index]))
        for index, (start, stop) in enumerate(pairwise(edges))
    )


def average_precision(curve: Curve, rule: Literal["11point", "area", "integral"] = "area") -> float:
    """One number for a curve.

    Args:
        curve: precision and recall of a class.
        rule: ``11point``: mean over t = 0, 0.1, ... 1 of the best precision at recall >= t (VOC 2007).
            ``area``: area below the falling envelope (VOC 2010 on; Caffe ``MaxIntegral``).
            ``integral``: area below the curve itself (Caffe ``Integral``).

    Returns:
        0..1, or NaN for a class without objects.
    """
    if not curve.objects:
        return float("nan")
    recall, precision = curve.recall, curve.precision
    if rule == "integral":
        return float(np.sum(precision * np.diff(recall, prepend=0.0)))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if rule == "area":
        return float(np.sum(envelope * np.diff(recall, prepend=0.0)))
    # k / 10, not a range of floats: that has 0.30000000000000004 and so misses a recall of exactly 3/10
    reached = np.searchsorted(recall, np.arange(11) / 10)
    return float(np.append(envelope, 0.0)[reached].mean())
