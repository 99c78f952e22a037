"""Scores, decoding and NMS as operators of an OpenVINO graph, for machines without a C compiler."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from singleshot.core.once import Once
from singleshot.core.postprocess import HeadGeometry, Heads, PaddedArrays, PaddedDetections, class_columns
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.export.openvino_core import openvino_core

# ``MulticlassNms`` would also cut to the best of each class and image, but its sort compares scores with a tolerance:
# where many scores are nearly equal (a confident detector's), it runs out of bounds (seen in OpenVINO 2026.4).


class OpenVinoForm:
    """A `Form` by OpenVINO: a graph of its own behind the network's, so that both are compiled once.

    Thresholds are inputs of the graph; only what changes its operators (dialects, agnostic NMS) makes another one.
    """

    orders_ties = False

    def __init__(self, geometry: HeadGeometry) -> None:
        self._geometry = geometry
        self._compiled = Once()

    def fits(self, settings: PostprocessConfig) -> bool:
        """Whether ``NonMaxSuppression`` computes what the settings say."""
        is_plain = settings.nms == "greedy" and settings.nms_union_eps == 0
        return is_plain and (not settings.class_agnostic or settings.candidates == "best_class")

    def __call__(self, heads: Heads, settings: PostprocessConfig) -> PaddedArrays:
        """Detect in a batch; from any thread.

        Raises:
            ValueError: it does not fit.
        """
        if not self.fits(settings):
            raise ValueError("NonMaxSuppression of OpenVINO cannot compute these settings; see fits()")
        widths = tuple(head.shape[2] for head in heads)

        def compile() -> ov.CompiledModel:
            model = detection_model(widths, self._geometry, settings)
            return openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

        compiled = self._compiled.get((widths, _operators(settings)), compile)
        request = compiled.create_infer_request()
        request.infer([*heads, *thresholds(settings)])
        rows, candidates, scores = (tensor.data for tensor in request.output_tensors)
        return finish_rows(rows, candidates, scores, settings, self._geometry.size_hw)


def _operators(settings: PostprocessConfig) -> PostprocessConfig:
    """The settings without what `thresholds` and `finish_rows` read: equal ones have the same graph."""
    same = {"score_threshold": 0.5, "nms_iou": 0.5, "max_detections": 1, "max_per_class": None, "pre_nms_top_k": None}
    return settings.model_copy(update=same)


def thresholds(settings: PostprocessConfig) -> tuple[np.int64, np.float32, np.float32]:
    """What `detection_model` takes besides heads: most boxes of a class, IoU, score."""
    limit = min(settings.max_per_class or settings.max_detections, settings.max_detections)
    iou = _above(settings.nms_iou) if settings.nms_compare == ">" else settings.nms_iou
    return np.int64(limit), np.float32(iou), np.float32(settings.score_threshold)


def detection_model(widths: tuple[int, ...], geometry: HeadGeometry, settings: PostprocessConfig) -> ov.Model:
    """From raw heads to detections; equal to ``multibox.decode.postprocess``.

    Args:
        widths: last sizes of ``box_codes, class_logits`` and, for RefineDet, ``arm_box_codes, arm_logits``.
        geometry: of the network.
        settings: dialect; `OpenVinoForm.fits`. `thresholds` are inputs, behind the heads.

    Returns:
        A model whose outputs ``finish_rows`` understands: survivors as rows ``[N, 7]`` (image, class id, score, x1, y1,
        x2, y2) in any order; how many candidates each class of an image has, ``[B, C]``; all scores, ``[B, C, A]``.
    """
    anchors_cxcywh, coder, image_size_hw, num_classes = geometry
    columns = class_columns(widths[1], settings, num_classes)
    heads = [op.parameter([-1, len(anchors_cxcywh), width], np.float32) for width in widths]
    limit, iou, least = (op.parameter([], kind) for kind in (np.int64, np.float32, np.float32))
    codes, logits, *refine = heads
    anchors: Any = op.constant(anchors_cxcywh[None])
    scores = op.softmax(logits, 2) if settings.score_function == "softmax" else op.sigmoid(logits)
    if refine:
        anchors = _to_cxcywh(_decode(refine[0], anchors, coder))
        is_object = op.greater(_columns(op.softmax(refine[1], 2), [1]), np.float32(settings.min_objectness))
        scores = op.select(is_object, scores, np.float32(0))
    scores = _columns(scores, columns)
    boxes = _decode(codes, anchors, coder)
    if settings.clip == "before":
        boxes = _clip(boxes, image_size_hw)
    best_ids = None
    if settings.candidates == "best_class":
        best = op.topk(scores, np.int64(1), 2, "max", "value", "i64")
        best_ids = best.output(1)
        if settings.class_agnostic:
            scores = best.output(0)
        else:
            is_best = op.equal(best_ids, op.constant(np.arange(len(columns), dtype=np.int64)))
            scores = op.select(is_best, scores, np.float32(0))
    scores = op.transpose(scores, np.array([0, 2, 1]))
    found = op.non_max_suppression(
        boxes,
        scores,
        limit,
        iou,
        least,
        box_encoding="corner",
        sort_result_descending=False,
        output_type="i64",
    )
    places = found.output(0)
    image_and_anchor = _columns(places, (0, 2), axis=1)
    if settings.class_agnostic:
        flat = op.squeeze(best_ids, np.int64(2))
        class_ids = op.unsqueeze(op.convert(op.gather_nd(flat, image_and_anchor), "f32"), np.int64(1))
    else:
        class_ids = op.convert(_columns(places, (1,), axis=1), "f32")
    images, values = (_columns(found.output(1), (column,), axis=1) for column in (0, 2))
    rows = op.concat([images, class_ids, values, op.gather_nd(boxes, image_and_anchor)], 1)
    is_candidate = op.convert(op.greater(scores, least), "i32")
    counts = op.reduce_sum(is_candidate, np.int64(2))
    results = [op.result(output) for output in (rows, counts, scores)]
    return ov.Model(results, [*heads, limit, iou, least], "detection")


def finish_rows(
    rows: NDArray[np.float32],
    candidates: NDArray[np.int32],
    scores: NDArray[np.float32],
    settings: PostprocessConfig,
    image_size_hw: tuple[int, int],
) -> PaddedArrays:
    """What is left to do behind the graph: cut to the best of each class and image, clip, pad.

    NMS let all candidates in. Had only the ``pre_nms_top_k`` best of a class entered, the same would have survived
    among them: whether a box survives is up to better ones alone. So the others are dropped here.

    Args:
        rows, candidates, scores: outputs of `detection_model`.
        settings: as there.
        image_size_hw: network input in pixels.
    """
    top_k = settings.pre_nms_top_k
    if settings.top_k_scope == "image":  # all classes of an image as one
        candidates = candidates.sum(axis=1, keepdims=True)
        scores = scores.reshape(len(scores), 1, math.prod(scores.shape[1:]))
    if top_k is not None and (crowded := candidates > top_k).any():
        least = np.zeros(candidates.shape, dtype=np.float32)
        least[crowded] = np.partition(scores[crowded], -top_k, axis=1)[:, -top_k]
        groups = 0 if candidates.shape[1] == 1 else rows[:, 1].astype(np.int64)
        rows = rows[rows[:, 2] >= least[rows[:, 0].astype(np.int64), groups]]
    rows = rows[np.lexsort((-rows[:, 2], rows[:, 0]))]
    images = rows[:, 0].astype(np.int64)
    counts = np.bincount(images, minlength=len(candidates))
    places = np.arange(len(rows)) - (np.cumsum(counts) - counts)[images]
    keep = places < settings.max_detections
    rows, images, places, counts = rows[keep], images[keep], places[keep], counts.clip(max=settings.max_detections)
    size = (len(counts), int(counts.max(initial=0)))
    boxes, best = np.zeros((*size, 4), dtype=np.float32), np.zeros(size, dtype=np.float32)
    class_ids = np.full(size, -1, dtype=np.int64)
    class_ids[images, places], best[images, places] = rows[:, 1], rows[:, 2]
    height, width = image_size_hw
    limits = np.array((width, height) * 2, dtype=np.float32)
    boxes[images, places] = rows[:, 3:].clip(0, limits) if settings.clip == "after" else rows[:, 3:]
    return PaddedDetections(boxes, best, class_ids, counts)


def _above(value: float) -> float:
    """The next float32: OpenVINO suppresses at ``>=`` its threshold."""
    return float(np.nextafter(np.float32(value), np.float32(math.inf)))


def _columns(x: Any, columns: Any, axis: int = 2) -> Any:
    """Some columns; a slice where they are neighbours."""
    columns = list(columns)
    if columns == list(range(columns[0], columns[0] + len(columns))):
        bounds = (columns[0], columns[-1] + 1, 1, axis)
        return op.slice(x, *(np.array([number], dtype=np.int64) for number in bounds))
    return op.gather(x, np.array(columns, dtype=np.int64), np.int64(axis))


def _decode(codes: Any, anchors: Any, coder: CoderConfig) -> Any:
    """``multibox.coder.decode_boxes``: codes ``[B, A, 4]`` to corners ``[B, A, 4]``."""
    variances = np.array(coder.variances, dtype=np.float32)
    if coder.order == "yxhw":
        codes = op.gather(codes, np.array([1, 0, 3, 2], dtype=np.int64), np.int64(2))
    codes = op.multiply(codes, op.constant(variances[None, None]))
    shift, log_ratio = _columns(codes, (0, 1)), _columns(codes, (2, 3))
    if coder.max_log_ratio is not None:
        log_ratio = op.minimum(log_ratio, np.float32(coder.max_log_ratio))
    sides = _columns(anchors, (2, 3))
    centre = op.add(_columns(anchors, (0, 1)), op.multiply(shift, sides))
    half = op.multiply(op.multiply(sides, op.exp(log_ratio)), np.float32(0.5))
    return op.concat([op.subtract(centre, half), op.add(centre, half)], 2)


def _to_cxcywh(boxes: Any) -> Any:
    low, high = _columns(boxes, (0, 1)), _columns(boxes, (2, 3))
    return op.concat([op.multiply(op.add(low, high), np.float32(0.5)), op.subtract(high, low)], 2)


def _clip(boxes: Any, image_size_hw: tuple[int, int]) -> Any:
    height, width = image_size_hw
    limits = op.constant(np.array([[[width, height, width, height]]], dtype=np.float32))
    return op.minimum(op.maximum(boxes, np.float32(0)), limits)
