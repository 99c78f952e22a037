"""Which class is taken for which."""

from __future__ import annotations

import numpy as np

from singleshot.evaluation.metrics.overlaps import Pairs, best_of_segments, overlapping_pairs, segment_starts
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth


def confusion_matrix(
    truth: GroundTruth,
    detections: DetectionTable,
    class_count: int,
    *,
    score_threshold: float = 0.0,
    min_iou: float = 0.5,
) -> np.ndarray:
    """Count objects by true class (rows) and detected class (columns); the last row and column are background.

    Objects and detections of an image are paired one to one, best pair first: pairs of the same class come before
    pairs of different ones, then the larger IoU wins. What found a difficult or crowd object is left out.

    Args:
        truth: objects.
        detections: detections.
        class_count: ``C``.
        score_threshold: detections count from this score on.
        min_iou: smallest overlap of a pair.

    Returns:
        ``[C + 1, C + 1]`` int64: missed objects in the last column, detections of nothing in the last row.
    """
    detections = detections.take(detections.scores >= score_threshold)
    pairs = overlapping_pairs(truth, detections, min_iou, same_class=False)
    same = truth.class_ids[pairs.objects] == detections.class_ids[pairs.detections]
    chosen = pair_off(pairs, pairs.overlaps + 2.0 * same)
    rows = np.full(len(detections), class_count)
    rows[chosen.detections] = truth.class_ids[chosen.objects]
    counted = np.ones(len(detections), dtype=bool)
    counted[chosen.detections] = ~truth.ignored[chosen.objects]
    missed = ~truth.ignored
    missed[chosen.objects] = False
    cells = np.concatenate(
        [
            rows[counted] * (class_count + 1) + detections.class_ids[counted],
            truth.class_ids[missed] * (class_count + 1) + class_count,
        ]
    )
    return np.bincount(cells, minlength=(class_count + 1) ** 2).reshape(class_count + 1, class_count + 1)


def pair_off(pairs: Pairs, worth: np.ndarray) -> Pairs:
    """Greedy one-to-one assignment: the pair worth most is taken, its rivals fall away, and so on.

    Pairs that are the best of both their detection and their object are what greedy picks anyway, so each round takes
    all of them at once; a few rounds suffice. Equal worths go to the smaller detection, then object.

    Args:
        pairs: ordered by detection, then object, as `overlapping_pairs` gives them.
        worth: ``[P]``.

    Returns:
        The chosen pairs, each detection and each object at most once.
    """
    rank = np.empty(len(worth), dtype=np.int64)
    rank[np.argsort(-worth, kind="stable")] = np.arange(len(worth), 0, -1)
    rows, by_object = np.arange(len(worth)), np.argsort(pairs.objects, kind="stable")
    taken = np.zeros(len(worth), dtype=bool)
    busy_detections = np.zeros(pairs.detections.max(initial=-1) + 1, dtype=bool)
    busy_objects = np.zeros(pairs.objects.max(initial=-1) + 1, dtype=bool)
    while len(rows):
        won = np.intersect1d(
            _winners(pairs.detections, rank, rows), _winners(pairs.objects, rank, by_object), assume_unique=True
        )
        taken[won] = True
        busy_detections[pairs.detections[won]] = True
        busy_objects[pairs.objects[won]] = True
        free = ~(busy_detections[pairs.detections] | busy_objects[pairs.objects])
        rows, by_object = rows[free[rows]], by_object[free[by_object]]
    return Pairs(*(column[taken] for column in pairs))


def _winners(ids: np.ndarray, rank: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of the rows (grouped by their ids) the best ranked of each id."""
    return np.asarray(rows[best_of_segments(rank[rows], segment_starts(ids[rows]))])
