"""Scores, decoding and NMS as operators of an OpenVINO graph, so that one compiled model goes from image to boxes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from singleshot.config import CoderConfig, PostprocessConfig

# OpenVINO suppresses at IoU >= its threshold and keeps scores >= its threshold.
SMALLEST = float(np.finfo(np.float32).tiny)


def fits_graph(settings: PostprocessConfig) -> bool:
    """Whether ``MulticlassNms`` computes exactly what the settings say."""
    one_list = not settings.class_agnostic or settings.candidates == "best_class"
    per_class = settings.max_per_class is None or settings.max_per_class >= settings.max_detections
    return settings.nms == "greedy" and one_list and per_class


def add_detection(
    model: ov.Model,
    anchors_cxcywh: NDArray[np.float32],
    settings: PostprocessConfig,
    coder: CoderConfig,
    num_classes: int,
    image_size_hw: tuple[int, int],
) -> ov.Model:
    """Continue a network from its raw heads to detections; equal to ``multibox.decode.postprocess``.

    Args:
        model: outputs ``box_codes, class_logits`` and, for RefineDet, ``arm_box_codes, arm_logits``.
        anchors_cxcywh: ``[A, 4]``.
        settings: thresholds and dialect; ``fits_graph`` holds.
        coder: how codes and boxes relate.
        num_classes: public classes.
        image_size_hw: network input in pixels, for clipping.

    Returns:
        A model with the outputs: rows ``[N, 6]`` (class id, score, x1, y1, x2, y2), sorted by image and falling score,
        and the number of rows of each image ``[B]``.
    """
    codes, logits, *refine = [output.get_node().input_value(0) for output in model.outputs]
    anchors: Any = op.constant(anchors_cxcywh[None])
    scores = op.softmax(logits, 2) if settings.score_function == "softmax" else op.sigmoid(logits)
    if refine:
        anchors = _to_cxcywh(_decode(refine[0], anchors, coder))
        is_object = op.greater(_columns(op.softmax(refine[1], 2), [1]), np.float32(settings.min_objectness))
        scores = op.select(is_object, scores, np.float32(0))
    scores = _columns(scores, settings.class_columns or range(1, num_classes + 1))
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
            is_best = op.equal(best_ids, op.constant(np.arange(num_classes, dtype=np.int64)))
            scores = op.select(is_best, scores, np.float32(0))
    found = op.multiclass_nms(
        boxes,
        op.transpose(scores, np.array([0, 2, 1])),
        sort_result_type="score",
        output_type="i64",
        iou_threshold=_above(settings.nms_iou) if settings.nms_compare == ">" else settings.nms_iou,
        score_threshold=max(_above(settings.score_threshold), SMALLEST),
        nms_top_k=settings.pre_nms_top_k or -1,
        keep_top_k=settings.max_detections,
        background_class=-1,
        normalized=True,
    )
    rows = found.output(0)
    if settings.class_agnostic:
        chosen = op.gather(op.reshape(best_ids, np.array([-1]), False), found.output(1), np.int64(0))
        rows = op.concat([op.convert(chosen, "f32"), _columns(rows, range(1, 6), axis=1)], 1)
    return ov.Model([op.result(rows), op.result(found.output(2))], model.get_parameters(), "detector")


def _above(value: float) -> float:
    """The next float32."""
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
