"""From raw heads to detections in NumPy, by the rules of `core.postprocess`: for machines with neither torch nor a C
compiler, such as small containers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.postprocess import HeadGeometry, Heads, PaddedArrays, PaddedDetections, class_columns
from singleshot.core.settings import CoderConfig, PostprocessConfig

Floats = NDArray[np.float32]


class NumpyForm(NamedTuple):
    """A `Form` that takes one image and one survivor after the other.

    Attributes:
        geometry: of the network.
    """

    geometry: HeadGeometry

    @property
    def orders_ties(self) -> bool:
        """It does."""
        return True

    def fits(self, settings: PostprocessConfig) -> bool:
        """All but soft-NMS and what other packages add."""
        return settings.nms in ("greedy", "none")

    def __call__(self, heads: Heads, settings: PostprocessConfig) -> PaddedArrays:
        """As `Form`.

        Raises:
            ValueError: it does not fit.
        """
        if not self.fits(settings):
            raise ValueError(f"postprocess.nms {settings.nms!r}: NumPy's form cannot do that; see fits()")
        return padded([self._detect([head[row] for head in heads], settings) for row in range(len(heads[0]))])

    def _detect(self, heads: Heads, settings: PostprocessConfig) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Boxes, scores and class ids of one image, best first."""
        columns = class_columns(heads[1].shape[1], settings, self.geometry.num_classes)
        order = np.argsort(columns)  # of equal scores the lower column comes first, whatever its class
        scores = _scores(heads, settings)[:, np.array(columns)[order]]
        if settings.candidates == "best_class":
            is_best = np.arange(len(columns)) == scores.argmax(axis=1)[:, None]
            scores = np.where(is_best, scores, np.float32(0))
            anchors, places = np.nonzero(is_best & (scores > np.float32(settings.score_threshold)))
        else:
            anchors, places = np.nonzero(scores > np.float32(settings.score_threshold))
        found = scores[anchors, places]
        best = np.argsort(-found, kind="stable")
        anchors, found, class_ids = anchors[best], found[best], order[places[best]]
        groups = np.zeros_like(class_ids) if settings.class_agnostic else class_ids
        if settings.pre_nms_top_k is not None:
            is_whole = settings.top_k_scope == "image"
            entered = _ranks(np.zeros_like(groups) if is_whole else groups) < settings.pre_nms_top_k
            anchors, found, class_ids, groups = anchors[entered], found[entered], class_ids[entered], groups[entered]
        boxes = self._boxes(heads, anchors)
        if settings.clip == "before":
            boxes = _clipped(boxes, self.geometry.size_hw)
        kept = survivors(boxes, groups, settings, self.geometry.size_hw)
        boxes = _clipped(boxes[kept], self.geometry.size_hw) if settings.clip == "after" else boxes[kept]
        return boxes, found[kept], class_ids[kept]

    def _boxes(self, heads: Heads, anchors: NDArray[np.int64]) -> Floats:
        origin, coder = self.geometry.anchors_cxcywh[anchors], self.geometry.coder
        if len(heads) > 2:
            first = _decode(heads[2][anchors], origin, coder)
            origin = np.concatenate([(first[:, :2] + first[:, 2:]) / 2, first[:, 2:] - first[:, :2]], axis=1)
        return _decode(heads[0][anchors], origin, coder)


def survivors(
    boxes: Floats, groups: NDArray[np.int64], settings: PostprocessConfig, size_hw: tuple[int, int]
) -> NDArray[np.int64]:
    """Greedy NMS of one image: rules 7 and 8.

    Args:
        boxes: corners of the candidates, best first, ``[N, 4]``.
        groups: of each, small integers, ``[N]``.
        settings: thresholds and limits.
        size_hw: network input in pixels.

    Returns:
        Rows of the survivors, best first.
    """
    if settings.nms == "none":
        limit = settings.max_per_class or len(groups)
        return np.flatnonzero(_ranks(groups) < limit)[: settings.max_detections]
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
    eps = np.float32(settings.nms_union_eps * math.prod(size_hw))
    iou = np.float32(settings.nms_iou)
    is_open = np.ones(len(groups), dtype=bool)
    counts = np.zeros(int(groups.max(initial=-1)) + 1, dtype=np.int64)
    kept: list[int] = []
    for row in range(len(groups)):
        if not is_open[row]:
            continue
        kept.append(row)
        counts[groups[row]] += 1
        if len(kept) == settings.max_detections:
            break
        rest = row + 1 + np.flatnonzero(is_open[row + 1 :] & (groups[row + 1 :] == groups[row]))
        if settings.max_per_class is not None and counts[groups[row]] >= settings.max_per_class:
            is_open[rest] = False
            continue
        sides = np.minimum(boxes[rest, 2:], boxes[row, 2:]) - np.maximum(boxes[rest, :2], boxes[row, :2])
        both = sides.clip(min=0).prod(axis=1)
        overlaps = both / np.maximum(areas[rest] + areas[row] - both + eps, np.finfo(np.float32).tiny)
        is_open[rest] = ~(overlaps > iou if settings.nms_compare == ">" else overlaps >= iou)
    return np.array(kept, dtype=np.int64)


def padded(rows: list[tuple[Floats, Floats, NDArray[np.int64]]]) -> PaddedArrays:
    """Boxes, scores and class ids of each image as one record."""
    counts = np.array([len(scores) for _, scores, _ in rows], dtype=np.int64)
    size = (len(rows), int(counts.max(initial=0)))
    boxes, scores = np.zeros((*size, 4), dtype=np.float32), np.zeros(size, dtype=np.float32)
    class_ids = np.full(size, -1, dtype=np.int64)
    for row, (own, best, ids) in enumerate(rows):
        boxes[row, : len(own)], scores[row, : len(own)], class_ids[row, : len(own)] = own, best, ids
    return PaddedDetections(boxes, scores, class_ids, counts)


def _scores(heads: Heads, settings: PostprocessConfig) -> Floats:
    scores = _softmax(heads[1]) if settings.score_function == "softmax" else _sigmoid(heads[1])
    if len(heads) > 2:
        is_object = _softmax(heads[3])[:, 1] > np.float32(settings.min_objectness)
        scores = np.where(is_object[:, None], scores, np.float32(0))
    return scores


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _sigmoid(logits: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logits)))


def _decode(codes: Floats, anchors: Floats, coder: CoderConfig) -> Floats:
    """``multibox.coder.decode_boxes``, in its order of operations."""
    codes = (codes[:, [1, 0, 3, 2]] if coder.order == "yxhw" else codes) * np.array(coder.variances, dtype=np.float32)
    ratios = codes[:, 2:] if coder.max_log_ratio is None else np.minimum(codes[:, 2:], np.float32(coder.max_log_ratio))
    centre = anchors[:, :2] + codes[:, :2] * anchors[:, 2:]
    with np.errstate(over="ignore"):
        half = np.exp(ratios) * anchors[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _clipped(boxes: Floats, size_hw: tuple[int, int]) -> Floats:
    return boxes.clip(0, np.array(size_hw[::-1] * 2, dtype=np.float32))


def _ranks(groups: NDArray[Any]) -> NDArray[np.int64]:
    """Place of each within its group, in the given order."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, dtype=np.int64)
    sizes = np.diff(np.append(starts, len(ordered)))
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return ranks
