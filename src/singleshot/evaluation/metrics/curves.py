"""Precision, recall and F1 on common grids, so that classes can be drawn and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from singleshot.evaluation.metrics.voc import Curve

GRID = np.arange(101) / 100
"""Recalls, or score thresholds, at which curves are sampled."""


class OperatingPoint(NamedTuple):
    """The score threshold with the best F1 and what it gives. Zero everywhere when nothing was found."""

    threshold: float
    f1: float
    precision: float
    recall: float


def precision_on_grid(curve: Curve) -> np.ndarray:
    """Best precision at recall >= 0, 0.01, ... 1, ``[101]``: the envelope; 0 where the recall is never reached."""
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    if not curve.objects:
        return np.full(len(GRID), np.nan)
    return np.append(envelope, 0.0)[np.searchsorted(curve.recall, GRID)]


def counts_on_grid(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Detections, and right ones among them, with a score >= 0, 0.01, ... 1, ``[101]`` each."""
    kept = np.searchsorted(-curve.scores, -GRID, side="right")
    return kept, np.append(0, curve.right)[kept]


def f1_on_grid(curve: Curve) -> np.ndarray:
    """F1 of the detections with a score >= 0, 0.01, ... 1, ``[101]``; NaN without objects."""
    if not curve.objects:
        return np.full(len(GRID), np.nan)
    kept, right = counts_on_grid(curve)
    return np.asarray(2 * right / (kept + curve.objects))


def best_point(curve: Curve) -> OperatingPoint:
    """The threshold with the best F1 among the scores that occur; equal scores stand or fall together."""
    f1 = 2 * curve.right / (np.arange(1, len(curve.right) + 1) + max(curve.objects, 1))
    last_of_equals = np.diff(curve.scores, append=-np.inf) != 0
    f1 = np.where(last_of_equals, f1, -1.0)
    if not curve.objects or not len(f1) or f1.max() <= 0:
        return OperatingPoint(0.0, 0.0, 0.0, 0.0)
    best = int(f1.argmax())
    found = float(curve.right[best])
    return OperatingPoint(float(curve.scores[best]), float(f1[best]), found / (best + 1), found / curve.objects)


def best_common_threshold(curves: Sequence[Curve]) -> tuple[float, float]:
    """The threshold of the grid with the best mean F1 over the classes that have objects, and that F1."""
    with_objects = [f1_on_grid(curve) for curve in curves if curve.objects]
    if not with_objects:
        return 0.0, float("nan")
    mean = np.mean(with_objects, axis=0)
    best = int(mean.argmax())
    return float(GRID[best]), float(mean[best])


def mean_of_defined(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
