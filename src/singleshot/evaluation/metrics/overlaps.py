"""Which detections overlap which objects, for all images and classes at once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth

PAIRS_AT_ONCE = 1 << 18
"""Pairs whose overlap is computed in one step; bounds the memory (about 200 bytes a pair)."""


class Pairs(NamedTuple):
    """Overlapping pairs, ordered by detection, then by object.

    Attributes:
        detections: rows of the detection table, ``[P]``.
        objects: rows of the ground truth, ``[P]``.
        overlaps: IoU, ``[P]`` float64.
    """

    detections: np.ndarray
    objects: np.ndarray
    overlaps: np.ndarray


def overlapping_pairs(
    truth: GroundTruth,
    detections: DetectionTable,
    min_overlap: float,
    *,
    same_class: bool = True,
    pixel_inclusive: bool = False,
    crowd_by_detection: bool = False,
) -> Pairs:
    """Pairs of a detection and an object of the same image whose overlap is at least ``min_overlap``.

    Objects are sorted by (image, class) once and every detection finds its range by binary search: the work is
    (N + D) log N plus the number of pairs of the same image and class, and the memory is bounded.

    Args:
        truth: ``N`` objects.
        detections: ``D`` detections.
        min_overlap: smallest IoU of a pair, above 0.
        same_class: pair only equal classes.
        pixel_inclusive: boxes contain their last row and column of pixels: widths and heights grow by 1 (VOC devkit).
        crowd_by_detection: overlap with a crowd is intersection / area of the detection (COCO).

    Returns:
        The pairs.
    """
    classes = 1 + max(_largest(truth.class_ids), _largest(detections.class_ids)) if same_class else 1
    object_keys = truth.image_index * classes + (truth.class_ids if same_class else 0)
    detection_keys = detections.image_index * classes + (detections.class_ids if same_class else 0)
    order = np.argsort(object_keys, kind="stable")
    object_keys = object_keys[order]
    first = np.searchsorted(object_keys, detection_keys, side="left")
    counts = np.searchsorted(object_keys, detection_keys, side="right") - first
    parts = [Pairs(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for rows in _slices(counts):
        left = np.repeat(np.arange(rows.start, rows.stop), counts[rows])
        right = order[_ranges(first[rows], counts[rows])]
        crowd = truth.iscrowd[right] if crowd_by_detection else None
        overlaps = _overlaps(detections.boxes_xyxy[left], truth.boxes_xyxy[right], float(pixel_inclusive), crowd)
        keep = overlaps >= min_overlap
        parts.append(Pairs(left[keep], right[keep], overlaps[keep]))
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def segment_starts(ids: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins, ``[S]``."""
    return np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))


def best_of_segments(values: np.ndarray, starts: np.ndarray, *, last: bool = False) -> np.ndarray:
    """Position of the largest value in each run along the last axis; of equal ones the first (or the last).

    Args:
        values: ``[..., P]``.
        starts: beginnings of the runs, ``[S]``; the first is 0.

    Returns:
        Positions in ``0..P-1``, ``[..., S]``.
    """
    if not len(starts):
        return np.zeros((*values.shape[:-1], 0), dtype=np.int64)
    lengths = np.diff(starts, append=values.shape[-1])
    best = np.maximum.reduceat(values, starts, axis=-1)
    winners = values == np.repeat(best, lengths, axis=-1)
    positions = np.arange(values.shape[-1])
    if last:
        return np.asarray(np.maximum.reduceat(np.where(winners, positions, -1), starts, axis=-1))
    return np.asarray(np.minimum.reduceat(np.where(winners, positions, len(positions)), starts, axis=-1))


def _largest(ids: np.ndarray) -> int:
    return int(ids.max()) if len(ids) else -1


def _slices(counts: np.ndarray) -> Iterator[slice]:
    """Cut rows into slices of at most about ``PAIRS_AT_ONCE`` pairs."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(PAIRS_AT_ONCE, total, PAIRS_AT_ONCE), side="right")
    edges = np.unique(np.concatenate([[0], cuts, [len(counts)]]))
    for start, stop in pairwise(edges):
        yield slice(int(start), int(stop))


def _ranges(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``first[i], first[i] + 1, ..., first[i] + counts[i] - 1`` for all i, one after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(first - before, counts) + np.arange(counts.sum())


def _overlaps(a: np.ndarray, b: np.ndarray, extra: float, crowd: np.ndarray | None) -> np.ndarray:
    """IoU of rows ``a`` (detections) and ``b`` (objects), ``[P, 4]`` each; 0 where the union is 0."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]) + extra
    intersection = sides.clip(min=0).prod(axis=1)
    area_a = (a[:, 2:] - a[:, :2] + extra).prod(axis=1)
    union = area_a + (b[:, 2:] - b[:, :2] + extra).prod(axis=1) - intersection
    if crowd is not None:
        union = np.where(crowd, area_a, union)
    return np.asarray(np.divide(intersection, union, out=np.zeros_like(union), where=union > 0))
