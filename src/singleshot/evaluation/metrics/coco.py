"""COCO's evaluation in numpy: the numbers of pycocotools, without its loop over images and classes.

pycocotools goes through the detections of an (image, class) group by falling score, and each takes the best object that
is still free. Groups do not touch each other, so here the first detections of all groups choose at once, then all
second ones, and so on, for the ten IoU thresholds and four size ranges together. Only detections that overlap
something take part; the others are wrong whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from singleshot.evaluation.metrics.curves import mean_of_defined
from singleshot.evaluation.metrics.overlaps import Pairs, best_of_segments, overlapping_pairs, segment_starts
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MAX_DETECTIONS = 100
"""Best detections of a class that count in an image by COCO's own rule."""
FEW_DETECTIONS = (1, 10)
"""Further such limits, for the recall alone."""

GROUP_PAIRS_AT_ONCE = 1 << 16


class CocoMetrics(NamedTuple):
    """COCO's numbers. NaN where there is no object to find (pycocotools prints -1).

    Attributes:
        summary: the twelve numbers by name: AP, AP50, AP75, AP_small, AP_medium, AP_large, AR_1, AR_10, AR_100
            (AR_300 with 300 as the limit), AR_small, AR_medium, AR_large.
        class_ap: AP of each class, ``[C]``.
        class_ap50: AP at IoU 0.5 of each class, ``[C]``.
        max_detections: best detections of a class that counted in an image.
    """

    summary: dict[str, float]
    class_ap: np.ndarray
    class_ap50: np.ndarray
    max_detections: int = MAX_DETECTIONS


class _Verdicts(NamedTuple):
    """What became of the ``U`` detections that overlap something, for ``A`` size ranges and ``T`` thresholds.

    Attributes:
        rows: rows of the ranked table, rising, ``[U]``.
        matched: found an object, ``[A, T, U]`` bool.
        ignored: that object need not be found, ``[A, T, U]`` bool.
    """

    rows: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray


class Judged(NamedTuple):
    """The detections of a data set, judged, and where those of each class are.

    Attributes:
        table: the detections that count, by image, class and falling score.
        rank: of each among those of its class in its image, from 0, ``[D]``.
        verdicts: of those that overlap something.
        outside: which lie outside each size range, ``[A, D]``.
        by_class: rows of the table by class and falling score, ``[D]``.
        edges: where each class begins in ``by_class``, ``[C + 1]``.
        column: of each row in the verdicts, -1 where it has none, ``[D]``.
    """

    table: DetectionTable
    rank: np.ndarray
    verdicts: _Verdicts
    outside: np.ndarray
    by_class: np.ndarray
    edges: np.ndarray
    column: np.ndarray

    def of_class(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of a class by falling score, which of them overlap something, and the columns of these."""
        rows = self.by_class[self.edges[index] : self.edges[index + 1]]
        places = np.flatnonzero(self.column[rows] >= 0)
        return rows, places, self.column[rows[places]]


def coco_metrics(
    truth: GroundTruth, detections: DetectionTable, class_count: int, max_detections: int = MAX_DETECTIONS
) -> CocoMetrics:
    """Evaluate detections as COCO does (pycocotools ``COCOeval``, boxes).

    Crowd objects absorb any number of detections by intersection / detection area. Difficult objects (VOC) are ignored
    likewise, by IoU; pycocotools does not know them.

    Args:
        truth: objects; ``areas`` decide their size class.
        detections: the best ``max_detections`` of a class count in an image.
        class_count: ``C``.
        max_detections: 100 is COCO's own.

    Returns:
        Summary and AP by class.
    """
    limits = (*FEW_DETECTIONS, max_detections)
    judged = judge(truth, detections, class_count, max_detections)
    precision = np.full((class_count, len(AREA_RANGES), len(IOU_THRESHOLDS), len(RECALLS)), np.nan)
    recall = np.full((class_count, len(AREA_RANGES), len(IOU_THRESHOLDS), len(limits)), np.nan)
    wanted = _objects_to_find(truth, class_count)
    for index in np.flatnonzero(wanted.any(axis=1)):
        rows, places, columns = judged.of_class(int(index))
        for size in np.flatnonzero(wanted[index]):
            found = judged.verdicts.matched[size][:, columns]
            right = found & ~judged.verdicts.ignored[size][:, columns]
            total = wanted[index, size]
            precision[index, size] = _precision(right, found, ~judged.outside[size, rows], places, total)
            within = judged.rank[rows[places]][:, None] < limits
            recall[index, size] = right.astype(np.int64) @ within / total
    return _summarise(precision, recall, limits)


def best_possible_ap(truth: GroundTruth, class_count: int, max_detections: int = MAX_DETECTIONS) -> float:
    """COCO AP of a perfect detector: below 1 where an image holds more objects of a class than detections count.

    Returns:
        0..1; NaN without objects.
    """
    cells = truth.image_index * class_count + truth.class_ids
    counts = np.bincount(cells[~truth.ignored], minlength=truth.image_count * class_count).reshape(-1, class_count)
    total = counts.sum(axis=0)
    reached = counts.clip(max=max_detections).sum(axis=0)[total > 0] / total[total > 0]
    return mean_of_defined((reached[:, None] >= RECALLS).mean(axis=1))


def judge(truth: GroundTruth, detections: DetectionTable, class_count: int, max_detections: int) -> Judged:
    """Decide for every detection, size range and IoU threshold whether it found an object; see `coco_metrics`."""
    table, rank = _ranked(detections, max_detections)
    verdicts = _judge(truth, table)
    by_class = np.lexsort((-table.scores, table.class_ids))
    edges = np.searchsorted(table.class_ids[by_class], np.arange(class_count + 1))
    column = np.full(len(table), -1)
    column[verdicts.rows] = np.arange(len(verdicts.rows))
    return Judged(table, rank, verdicts, _outside(_box_areas(table)), by_class, edges, column)


def _ranked(detections: DetectionTable, most: int) -> tuple[DetectionTable, np.ndarray]:
    """Detections by image, class and falling score, at most ``most`` of a group, and the rank of each in its group."""
    order = np.lexsort((-detections.scores, detections.class_ids, detections.image_index))
    table = detections.take(order)
    groups = np.diff(table.image_index, prepend=-1).astype(bool) | np.diff(table.class_ids, prepend=-1).astype(bool)
    starts = np.flatnonzero(groups)
    rank = np.arange(len(table)) - np.repeat(starts, np.diff(starts, append=len(table)))
    keep = rank < most
    return table.take(keep), rank[keep]


def _outside(areas: np.ndarray) -> np.ndarray:
    """Which areas lie outside each size range, ``[A, N]``. Both ends belong to a range."""
    low, high = np.array(list(AREA_RANGES.values())).T[..., None]
    return np.asarray((areas < low) | (areas > high))


def _box_areas(table: DetectionTable) -> np.ndarray:
    boxes = table.boxes_xyxy.astype(np.float64)
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _objects_to_find(truth: GroundTruth, class_count: int) -> np.ndarray:
    """Objects that count, ``[C, A]``."""
    counted = ~(truth.ignored | _outside(truth.areas))
    return np.stack([np.bincount(truth.class_ids[row], minlength=class_count) for row in counted], axis=1)


def _judge(truth: GroundTruth, table: DetectionTable) -> _Verdicts:
    pairs = overlapping_pairs(truth, table, IOU_THRESHOLDS[0], crowd_by_detection=True)
    starts = segment_starts(pairs.detections)
    rows = pairs.detections[starts]
    shape = (len(AREA_RANGES), len(IOU_THRESHOLDS), len(rows))
    verdicts = _Verdicts(rows, np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool))
    number = np.repeat(np.arange(len(rows)), np.diff(starts, append=len(pairs.detections)))
    group = np.stack([table.image_index[rows], table.class_ids[rows]])
    new_group = np.append(True, (np.diff(group) != 0).any(axis=0))[: len(rows)]
    turn = np.arange(len(rows)) - np.maximum.accumulate(np.where(new_group, np.arange(len(rows)), 0))
    for part in _parts(number, new_group):
        _take_turns(truth, Pairs(number[part], pairs.objects[part], pairs.overlaps[part]), turn, verdicts)
    return verdicts


def _parts(number: np.ndarray, new_group: np.ndarray) -> Iterator[slice]:
    """Cut pairs into slices of about `GROUP_PAIRS_AT_ONCE`, only where a group begins."""
    begins = np.flatnonzero(np.diff(number, prepend=-1).astype(bool) & new_group[number])
    cuts = np.searchsorted(begins, np.arange(0, len(number), GROUP_PAIRS_AT_ONCE))
    edges = np.unique(np.append(begins[cuts[cuts < len(begins)]], len(number)))
    for start, stop in pairwise(edges):
        yield slice(int(start), int(stop))


def _take_turns(truth: GroundTruth, pairs: Pairs, turn: np.ndarray, verdicts: _Verdicts) -> None:
    """Let the detections of some groups choose, one of each group at a time; fills ``verdicts``.

    Args:
        truth: all objects.
        pairs: ``detections`` are columns of the verdicts.
        turn: when each column of the verdicts chooses, ``[U]``.
        verdicts: filled for the detections of ``pairs``.
    """
    objects, local = np.unique(pairs.objects, return_inverse=True)
    skip = truth.ignored[objects] | _outside(truth.areas[objects])
    skip = np.broadcast_to(skip[:, None], (*verdicts.matched.shape[:2], len(objects)))
    taken = np.zeros(skip.shape, dtype=bool)
    again = truth.ignored[objects]
    order = np.argsort(turn[pairs.detections], kind="stable")
    turns = np.searchsorted(turn[pairs.detections][order], np.arange(turn[pairs.detections].max() + 2))
    for start, stop in pairwise(turns):
        rows = order[start:stop]
        target = local[rows]
        starts = segment_starts(pairs.detections[rows])
        free = (pairs.overlaps[rows] >= IOU_THRESHOLDS[:, None]) & (~taken[..., target] | again[target])
        worth = np.where(free, pairs.overlaps[rows] + 2.0 * ~skip[..., target], -1.0)
        best = best_of_segments(worth, starts, last=True)
        matched = np.take_along_axis(free, best, axis=-1)
        chosen = target[best]
        columns = pairs.detections[rows[starts]]
        verdicts.matched[..., columns] = matched
        verdicts.ignored[..., columns] = matched & np.take_along_axis(skip, chosen, axis=-1)
        size, threshold, which = np.nonzero(matched)
        taken[size, threshold, chosen[size, threshold, which]] = True


def _precision(right: np.ndarray, found: np.ndarray, inside: np.ndarray, places: np.ndarray, total: int) -> np.ndarray:
    """Precision at the 101 recalls for one class and size range.

    Only detections that found something need a place in the arrays: between them precision falls and recall stands.

    Args:
        right: found an object that counts, ``[T, u]``.
        found: found any object, ``[T, u]``.
        inside: which of all ``n`` detections lie in the size range (the others count only if right), ``[n]``.
        places: where the ``u`` stand among the ``n``, rising.
        total: objects to find.

    Returns:
        ``[T, 101]``.
    """
    # if nothing had found anything, this many detections would count up to each place ...
    counted = np.cumsum(inside)[places]
    # ... but those that found something count if, and only if, they are right
    counted = counted + np.cumsum(right.astype(np.int64) - (inside[places] & found), axis=1)
    hits = np.cumsum(right, axis=1)
    precision = np.where(right, hits / (counted + np.spacing(1)), 0.0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.append(envelope, np.zeros((len(right), 1)), axis=1)
    reached = np.stack([np.searchsorted(row, RECALLS) for row in hits / total])
    return np.take_along_axis(envelope, reached, axis=1)


def _summarise(precision: np.ndarray, recall: np.ndarray, limits: tuple[int, ...]) -> CocoMetrics:
    """The twelve numbers from precision ``[C, A, T, R]`` and recall ``[C, A, T, M]``, ``M`` the limits."""
    sizes = {name: index for index, name in enumerate(AREA_RANGES)}
    ap = {name: mean_of_defined(precision[:, index]) for name, index in sizes.items()}
    ar = {name: mean_of_defined(recall[:, index, :, -1]) for name, index in sizes.items()}
    summary = {
        "AP": ap["all"],
        "AP50": mean_of_defined(precision[:, 0, 0]),
        "AP75": mean_of_defined(precision[:, 0, 5]),
    }
    summary |= {f"AP_{name}": ap[name] for name in ("small", "medium", "large")}
    summary |= {f"AR_{most}": mean_of_defined(recall[:, 0, :, index]) for index, most in enumerate(limits)}
    summary |= {f"AR_{name}": ar[name] for name in ("small", "medium", "large")}
    return CocoMetrics(summary, precision[:, 0].mean(axis=(1, 2)), precision[:, 0, 0].mean(axis=1), limits[-1])
