"""Scores, decoding and NMS as ONNX nodes, by the rules of `core.postprocess`.

``NonMaxSuppression`` is exact and greedy. What it lacks is done around it: a single best class of an anchor before,
the limits of candidates and of an image behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from singleshot.core.postprocess import HeadGeometry, class_columns
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.export.onnx_nodes import Nodes

BELOW = np.float32(1 - 2**-24)
"""A float32 times this is the next smaller one; divided by it, the next larger one."""

THRESHOLDS = ("score_threshold", "nms_iou", "max_detections")
"""Names of the constants that a caller may replace."""


class Decoded(NamedTuple):
    """Names of what every anchor says.

    Attributes:
        boxes: xyxy in pixels of the network input, ``[B, A, 4]``; clipped where the rules clip before NMS.
        scores: of the public classes, ``[B, A, C]``, or ``[B, C, A]`` for NMS.
    """

    boxes: str
    scores: str


def refusal(settings: PostprocessConfig) -> str | None:
    """Which of the rules ``NonMaxSuppression`` cannot follow, and the remedy; ``None`` where it can follow all."""
    if settings.nms not in ("greedy", "none"):
        return f"its NonMaxSuppression is greedy, and this detector's `postprocess.nms` is '{settings.nms}'"
    if settings.nms_union_eps:
        return "its NonMaxSuppression adds nothing to a union, and this detector's `postprocess.nms_union_eps` does"
    if settings.class_agnostic and settings.candidates != "best_class":
        return "its NonMaxSuppression takes one class of an anchor where classes suppress each other"
    return None


def decoded_nodes(
    graph: Nodes,
    heads: Sequence[str],
    width: int,
    geometry: HeadGeometry,
    settings: PostprocessConfig,
    by_class: bool = False,
) -> Decoded:
    """Rules 1, 2 and 6.

    Args:
        graph: where the nodes go.
        heads: names of ``box_codes, class_logits`` and, for RefineDet, ``arm_box_codes, arm_logits``.
        width: logit columns.
        geometry: of the network.
        settings: dialect.
        by_class: whether scores are ``[B, C, A]``.
    """
    codes, logits, *refine = heads
    columns = class_columns(width, settings, geometry.num_classes)
    is_softmax = settings.score_function == "softmax"
    scores, axis = graph.op("Softmax", logits, axis=2) if is_softmax else logits, 2
    if by_class:
        scores, axis = graph.op("Transpose", scores, perm=[0, 2, 1]), 1
    scores = graph.columns(scores, columns, axis)
    if not is_softmax:
        scores = graph.op("Sigmoid", scores)
    anchors = graph.constant(geometry.anchors_cxcywh[None])
    if refine:
        anchors = _to_cxcywh(graph, _decode(graph, refine[0], anchors, geometry.coder))
        objectness = graph.columns(graph.op("Softmax", refine[1], axis=2), [1], 2)
        is_object = graph.op("Greater", objectness, np.float32(settings.min_objectness))
        if by_class:
            is_object = graph.op("Transpose", is_object, perm=[0, 2, 1])
        scores = graph.op("Where", is_object, scores, np.float32(0))
    boxes = _decode(graph, codes, anchors, geometry.coder)
    return Decoded(_clip(graph, boxes, geometry) if settings.clip == "before" else boxes, scores)


def detection_nodes(
    graph: Nodes,
    decoded: Decoded,
    classes: int,
    geometry: HeadGeometry,
    settings: PostprocessConfig,
    suppresses_at: bool,
) -> tuple[str, str, str, str]:
    """Rules 3 to 5, 7 and 8.

    Args:
        graph: where the nodes go.
        decoded: of every anchor, scores by class.
        classes: how many.
        geometry: of the network.
        settings: thresholds, which become constants of the names `THRESHOLDS`, and dialect (`refusal`).
        suppresses_at: whether the runtime's ``NonMaxSuppression`` suppresses at its threshold (OpenVINO) or above it.

    Returns:
        Names of boxes ``[B, D, 4]`` in pixels of the network input, scores ``[B, D]``, class ids ``[B, D]`` int64 and
        counts ``[B]`` int64; ``D`` is ``max_detections``.
    """
    least, iou, most = _thresholds(graph, settings, suppresses_at)
    scores, best_ids = _candidates(graph, decoded.scores, classes, settings)
    limit = most
    if settings.max_per_class is not None:
        limit = graph.op("Min", most, [settings.max_per_class])
    places = graph.op("NonMaxSuppression", decoded.boxes, scores, limit, iou, least)  # image, class, anchor
    values = graph.op("GatherND", scores, places)
    if settings.pre_nms_top_k is not None:
        groups = 1 if settings.class_agnostic or settings.top_k_scope == "image" else classes
        kept = _entered(graph, scores, places, values, least, settings.pre_nms_top_k, groups)
        places, values = (graph.op("Compress", part, kept, axis=0) for part in (places, values))
    images, class_ids, _ = (graph.columns(places, [column], 1) for column in range(3))
    where = graph.columns(places, [0, 2], 1)
    if best_ids is not None:
        class_ids = graph.op("GatherND", best_ids, where)
    return _padded(graph, decoded, scores, _Rows(values, images, class_ids, where), most, geometry, settings)


class _Rows(NamedTuple):
    """Survivors: scores ``[N]``, image ``[N, 1]``, class ``[N, 1]``, image and anchor ``[N, 2]``."""

    values: str
    images: str
    class_ids: str
    where: str


def _thresholds(graph: Nodes, settings: PostprocessConfig, suppresses_at: bool) -> tuple[str, str, str]:
    iou = 1.0 if settings.nms == "none" else settings.nms_iou
    names = [name if name != "nms_iou" or settings.nms != "none" else "" for name in THRESHOLDS]  # nothing to replace
    least, given, most = (
        graph.constant(np.array([value], dtype), name)
        for name, value, dtype in zip(
            names,
            (settings.score_threshold, iou, settings.max_detections),
            (np.float32, np.float32, np.int64),
            strict=True,
        )
    )
    is_at = settings.nms_compare == ">=" and settings.nms != "none"
    if is_at == suppresses_at:
        return least, given, most
    return least, graph.op("Mul" if is_at else "Div", given, BELOW), most


def _candidates(graph: Nodes, scores: str, classes: int, settings: PostprocessConfig) -> tuple[str, str | None]:
    """Scores of the pairs that may be candidates, ``[B, C, A]`` or, where classes are one, ``[B, 1, A]``.

    In the second case also the class of each anchor, ``[B, A, 1]``.
    """
    if settings.candidates != "best_class":
        return scores, None
    best_ids = graph.op("ArgMax", scores, axis=1, keepdims=1)
    if settings.class_agnostic:
        return graph.op("ReduceMax", scores, axes=[1], keepdims=1), graph.op("Transpose", best_ids, perm=[0, 2, 1])
    is_best = graph.op("Equal", best_ids, np.arange(classes)[:, None])
    return graph.op("Where", is_best, scores, np.float32(0)), None


def _entered(graph: Nodes, scores: str, places: str, values: str, least: str, top_k: int, groups: int) -> str:
    """Which survivors were among the ``top_k`` candidates of their group, ``[N]`` bool.

    NMS let all in. Whether a box survives is up to better ones alone, so the others are dropped behind it; the score
    of the last that enters is only looked for where a group has more.
    """
    each = scores if groups > 1 else graph.op("Flatten", scores, axis=1)
    axis = 2 if groups > 1 else 1
    counts = graph.op("ReduceSum", graph.cast(graph.op("Greater", each, least), np.int32), [axis], keepdims=1)
    crowded = graph.op("Greater", graph.op("ReduceMax", counts, keepdims=0), np.int32(top_k))
    own = graph.columns(places, [0, 1] if groups > 1 else [0], 1)
    yes, no = Nodes(f"{graph.prefix}/crowded"), Nodes(f"{graph.prefix}/free")
    size = graph.columns(graph.op("Shape", each), [axis], 0)
    last = yes.ops("TopK", each, yes.op("Min", size, [top_k]), outputs=2, axis=axis)[0]
    last = yes.op("ReduceMin", last, axes=[axis], keepdims=0)
    kept = yes.op("GreaterOrEqual", values, yes.op("GatherND", last, own))
    free = no.op("GreaterOrEqual", values, np.float32(0))
    return graph.either(crowded, (yes, kept), (no, free), np.bool_, ["survivors"])


def _padded(
    graph: Nodes,
    decoded: Decoded,
    scores: str,
    rows: _Rows,
    most: str,
    geometry: HeadGeometry,
    settings: PostprocessConfig,
) -> tuple[str, str, str, str]:
    """The best of each image as one row, by falling score."""
    count = graph.op("Shape", rows.values)
    values, order = graph.ops("TopK", rows.values, count, outputs=2, axis=0)
    images, class_ids, where = (
        graph.op("Gather", part, order, axis=0) for part in (rows.images, rows.class_ids, rows.where)
    )
    batch = graph.columns(graph.op("Shape", scores), [0], 0)
    numbers = graph.op("Range", np.int64(0), graph.op("Squeeze", batch), np.int64(1))
    own = graph.cast(graph.op("Equal", images, numbers), np.int32)  # [N, B]
    ranks = graph.op("CumSum", own, np.int64(0))
    rank = graph.op("Sub", graph.op("ReduceSum", graph.op("Mul", ranks, own), [1], keepdims=1), np.int32(1))
    rank = graph.cast(rank, np.int64)
    fits = graph.op("Squeeze", graph.op("Less", rank, most), [1])
    kept = (graph.op("Compress", part, fits, axis=0) for part in (values, images, class_ids, where, rank))
    values, images, class_ids, where, rank = kept
    counts = graph.op("Min", graph.cast(graph.op("ReduceSum", own, [0], keepdims=0), np.int64), most)
    boxes = graph.op("GatherND", decoded.boxes, where)
    if settings.clip == "after":
        boxes = _clip(graph, boxes, geometry, axes=2)
    places = graph.op("Concat", images, rank, axis=1)
    shape = graph.op("Concat", batch, most, axis=0)
    return (
        graph.op("ScatterND", _filled(graph, graph.op("Concat", shape, [4], axis=0), np.float32(0)), places, boxes),
        graph.op("ScatterND", _filled(graph, shape, np.float32(0)), places, values),
        graph.op("ScatterND", _filled(graph, shape, np.int64(-1)), places, graph.op("Squeeze", class_ids, [1])),
        counts,
    )


def _filled(graph: Nodes, shape: str, value: np.generic) -> str:
    return graph.op("Expand", value, shape)


def _decode(graph: Nodes, codes: str, anchors: str, coder: CoderConfig) -> str:
    """``multibox.coder.decode_boxes``: codes ``[B, A, 4]`` to corners ``[B, A, 4]``."""
    if coder.order == "yxhw":
        codes = graph.op("Gather", codes, [1, 0, 3, 2], axis=2)
    codes = graph.op("Mul", codes, np.array(coder.variances, np.float32))
    shift, log_ratio = graph.columns(codes, [0, 1], 2), graph.columns(codes, [2, 3], 2)
    if coder.max_log_ratio is not None:
        log_ratio = graph.op("Min", log_ratio, np.float32(coder.max_log_ratio))
    sides = graph.columns(anchors, [2, 3], 2)
    centre = graph.op("Add", graph.columns(anchors, [0, 1], 2), graph.op("Mul", shift, sides))
    half = graph.op("Mul", graph.op("Mul", graph.op("Exp", log_ratio), sides), np.float32(0.5))
    return graph.op("Concat", graph.op("Sub", centre, half), graph.op("Add", centre, half), axis=2)


def _to_cxcywh(graph: Nodes, boxes: str) -> str:
    low, high = graph.columns(boxes, [0, 1], 2), graph.columns(boxes, [2, 3], 2)
    centre = graph.op("Mul", graph.op("Add", low, high), np.float32(0.5))
    return graph.op("Concat", centre, graph.op("Sub", high, low), axis=2)


def _clip(graph: Nodes, boxes: str, geometry: HeadGeometry, axes: int = 3) -> str:
    height, width = geometry.size_hw
    limits = np.array([width, height] * 2, np.float32).reshape((1,) * (axes - 1) + (4,))
    return graph.op("Min", graph.op("Max", boxes, np.float32(0)), limits)
