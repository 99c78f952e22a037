"""How far a COCO AP may be off because only so many images were measured: a bootstrap over the images."""

from __future__ import annotations

import numpy as np

from singleshot.evaluation.metrics.coco import MAX_DETECTIONS, RECALLS, Judged, judge
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth

RESAMPLES = 200
FEWEST_IMAGES = 5
"""Of fewer images nothing can be said."""
MOST_NUMBERS = 2 << 24
"""Numbers to be summed up, at most (about a second): more images make intervals that nobody needs."""
PERCENTILES = (2.5, 97.5)


def ap_intervals(
    truth: GroundTruth,
    detections: DetectionTable,
    class_count: int,
    max_detections: int = MAX_DETECTIONS,
    *,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """Where COCO's AP and AP50 would lie in 95 of 100 draws of as many images (percentile bootstrap).

    Each draw takes ``I`` of the ``I`` images with replacement: an image drawn twice counts twice. Verdicts do not
    depend on other images, so they are made once, and a draw only weighs them. Draws of rare classes are a little too
    good (an image drawn twice agrees with itself), so the interval is moved by the difference of their mean.

    Args:
        truth, detections, class_count, max_detections: as in `coco_metrics`.
        resamples: draws.

    Returns:
        (low, high) by name, ``AP`` and ``AP50``; empty for few images, for very many, and where nothing varies.
    """
    if truth.image_count < FEWEST_IMAGES or not (~truth.ignored).any():
        return {}
    judged = judge(truth, detections, class_count, max_detections)
    thresholds = judged.verdicts.matched.shape[1]
    if resamples * (len(judged.table) + thresholds * len(judged.verdicts.rows)) > MOST_NUMBERS:
        return {}
    draws = np.random.default_rng(0).integers(truth.image_count, size=(resamples, truth.image_count))
    weights = np.stack([np.bincount(draw, minlength=truth.image_count) for draw in draws])
    sought = np.flatnonzero(np.bincount(truth.class_ids[~truth.ignored], minlength=class_count))
    by_class = np.stack([_weighted_ap(truth, judged, int(index), weights) for index in sought])
    defined = ~np.isnan(by_class)
    mean = np.where(defined, by_class, 0).sum(axis=0) / defined.sum(axis=0).clip(min=1)  # [R, T]
    mean = mean[defined[..., 0].any(axis=0)]
    own = np.stack([_weighted_ap(truth, judged, int(index), np.ones_like(weights[:1])) for index in sought])[:, 0]
    found = {
        "AP": _interval(mean.mean(axis=1), float(own.mean())),
        "AP50": _interval(mean[:, 0], float(own[:, 0].mean())),
    }
    return {name: ends for name, ends in found.items() if ends[1] - ends[0] > 1e-9}


def _interval(draws: np.ndarray, value: float) -> tuple[float, float]:
    """The middle 95 % of the draws, moved so that their mean is the value itself."""
    low, high = (np.percentile(draws, PERCENTILES) - draws.mean() + value).clip(0, 1)
    return float(low), float(high)


def _weighted_ap(truth: GroundTruth, judged: Judged, index: int, weights: np.ndarray) -> np.ndarray:
    """AP of a class where image ``i`` counts ``weights[r, i]`` times, ``[R, T]``; NaN where no object of it is drawn.

    As `singleshot.evaluation.metrics.coco` computes precision, with sums of weights in place of counts.
    """
    rows, places, columns = judged.of_class(index)
    objects = truth.image_index[(truth.class_ids == index) & ~truth.ignored]
    total = weights[:, objects].sum(axis=1)[:, None, None]
    found = judged.verdicts.matched[0][:, columns]
    right = found & ~judged.verdicts.ignored[0][:, columns]
    inside = ~judged.outside[0, rows]
    weight = weights[:, judged.table.image_index[rows]]  # [R, n]
    near = weight[:, None, places]  # [R, 1, u]
    counted = np.cumsum(weight * inside, axis=1)[:, None, places]
    counted = counted + np.cumsum(near * (right.astype(np.int64) - (inside[places] & found)), axis=2)
    hits = np.cumsum(near * right, axis=2)  # [R, T, u]
    precision = np.where(right, hits / np.maximum(counted, 1), 0.0)
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    # each place answers for the recalls that it is the first to reach
    reached = np.searchsorted(RECALLS, hits / np.maximum(total, 1), side="right")
    share = np.diff(reached, axis=2, prepend=0) * envelope
    return np.asarray(np.where(total[..., 0] > 0, share.sum(axis=2) / len(RECALLS), np.nan))
