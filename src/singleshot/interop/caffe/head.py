"""What stands behind a Caffe SSD's feature maps: predictors, PriorBox and DetectionOutput."""

from __future__ import annotations

import math
from typing import NamedTuple

from singleshot.core.settings import AnchorConfig, AnchorLevel, CoderConfig, PostprocessConfig, Variances
from singleshot.errors import WeightsError
from singleshot.interop.caffe.net import Net, Node
from singleshot.interop.wire.prototxt import Message

REORDERING = frozenset({"Flatten", "Permute", "Reshape", "Softmax", "Sigmoid"})
SAME_RATIO = 1e-6
CENTRE_SIZE = ("CENTER_SIZE", "2")


class CaffeLevel(NamedTuple):
    """One source: the map, the last layers of its two predictors, and its PriorBox."""

    source: Node
    boxes: Node
    logits: Node
    prior: Node


class Head(NamedTuple):
    """Everything behind the feature maps."""

    levels: tuple[CaffeLevel, ...]
    columns: int
    anchors: AnchorConfig
    coder: CoderConfig
    postprocess: PostprocessConfig


def read_head(net: Net, origin: str) -> Head:
    """Find and read the head of a network.

    Raises:
        WeightsError: there is no DetectionOutput, or it is not an SSD's.
    """
    found = net.of_type("DetectionOutput")
    if len(found) != 1 or len(found[0].inputs) != 3:
        raise WeightsError(
            f"{origin}: no DetectionOutput layer with three inputs, so no SSD for use: import with its deploy.prototxt"
        )
    output = found[0]
    boxes, logits, priors = (_parts(node, origin) for node in output.inputs)
    if not len(boxes) == len(logits) == len(priors) or any(prior.type != "PriorBox" for prior in priors):
        raise WeightsError(f"{origin}: {len(boxes)} box maps, {len(logits)} class maps and {len(priors)} PriorBoxes")
    levels = tuple(
        CaffeLevel(prior.inputs[0], box, logit, prior) for box, logit, prior in zip(boxes, logits, priors, strict=True)
    )
    settings = output.message.message("detection_output_param")
    columns = settings.integer("num_classes", 0)
    if columns < 2 or settings.number("background_label_id", 0) != 0 or not settings.flag("share_location", True):
        raise WeightsError(f"{origin}: DetectionOutput with {columns} classes, or a background that is not class 0")
    if settings.text("code_type", "CORNER") not in CENTRE_SIZE:
        raise WeightsError(
            f"{origin}: boxes are coded as {settings.text('code_type', 'CORNER')}; only CENTER_SIZE is known"
        )
    is_plain = settings.flag("variance_encoded_in_target", False)
    variances = Variances(1.0, 1.0, 1.0, 1.0) if is_plain else _variances(levels, origin)
    return Head(
        levels,
        columns,
        _anchors(levels, net, origin),
        CoderConfig(variances=variances, max_log_ratio=None),
        _postprocess(settings, _score_function(output.inputs[1], origin), columns),
    )


def _parts(node: Node, origin: str) -> list[Node]:
    """Behind reordering layers: the parts of a concatenation, each behind reordering layers; or the one part."""
    node = _behind(node)
    parts = [_behind(part) for part in node.inputs] if node.type == "Concat" else [node]
    if not parts:
        raise WeightsError(f"{origin}: DetectionOutput reads '{node.name}', which is no predictor")
    return parts


def _behind(node: Node) -> Node:
    while node.type in REORDERING and node.inputs:
        node = node.inputs[0]
    return node


def _score_function(node: Node, origin: str) -> str:
    while node.type in REORDERING and node.inputs:
        if node.type in ("Softmax", "Sigmoid"):
            return node.type.lower()
        node = node.inputs[0]
    raise WeightsError(f"{origin}: DetectionOutput reads scores without a Softmax or Sigmoid before them")


def _variances(levels: tuple[CaffeLevel, ...], origin: str) -> Variances:
    """The one list of variances of all PriorBoxes."""
    lists = {tuple(level.prior.message.message("prior_box_param").numbers("variance")) for level in levels}
    values = next(iter(lists))
    if len(lists) != 1 or len(values) not in (0, 1, 4):
        raise WeightsError(f"{origin}: PriorBoxes with different variances: {sorted(lists)}")
    if len(values) != 4:
        values = (values or (0.1,)) * 4
    return Variances(*values)


def _anchors(levels: tuple[CaffeLevel, ...], net: Net, origin: str) -> AnchorConfig:
    settings = [level.prior.message.message("prior_box_param") for level in levels]
    shared = {(one.flag("clip", False), one.number("offset", 0.5)) for one in settings}
    if len(shared) != 1:
        raise WeightsError(f"{origin}: PriorBoxes that differ in clip or offset")
    clip, offset = shared.pop()
    rows = tuple(_level(one, net.size_hw, origin) for one in settings)
    return AnchorConfig(
        levels=rows,
        reference_hw=net.size_hw if any(row.step_hw for row in rows) else None,
        offset_yx=(offset, offset),
        clip="corner" if clip else "none",
    )


def _level(settings: Message, size_hw: tuple[int, int], origin: str) -> AnchorLevel:
    """Shapes in Caffe's order; its layer cuts sizes to whole pixels."""
    side = settings.number("img_size", 0)
    height, width = settings.number("img_h", side) or size_hw[0], settings.number("img_w", side) or size_hw[1]
    ratios = _ratios(settings)
    smalls = [float(value) for value in settings.integers("min_size")]
    bigs = [float(value) for value in settings.integers("max_size")]
    if not smalls or (bigs and len(bigs) != len(smalls)) or min([*smalls, *bigs, *ratios]) <= 0:
        raise WeightsError(f"{origin}: a PriorBox with min_size {smalls} and max_size {bigs}")
    shapes = []
    for index, small in enumerate(smalls):
        shapes.append((small, small))
        if bigs:
            shapes.append((math.sqrt(small * bigs[index]),) * 2)
        shapes += [(small * math.sqrt(ratio), small / math.sqrt(ratio)) for ratio in ratios]
    step = settings.number("step", 0)
    step_y, step_x = settings.number("step_h", step), settings.number("step_w", step)
    return AnchorLevel(
        shapes_wh=tuple((w / width, h / height) for w, h in shapes),
        step_hw=(step_y / height, step_x / width) if step_y > 0 and step_x > 0 else None,
    )


def _ratios(settings: Message) -> list[float]:
    """Listed ratios that are not there yet, each with its reciprocal unless ``flip`` is off; without 1."""
    ratios = [1.0]
    for ratio in settings.numbers("aspect_ratio"):
        if ratio > 0 and all(abs(ratio - other) >= SAME_RATIO for other in ratios):
            ratios += [ratio, 1 / ratio] if settings.flag("flip", True) else [ratio]
    return ratios[1:]


def _postprocess(settings: Message, score_function: str, columns: int) -> PostprocessConfig:
    nms = settings.message("nms_param")
    best, keep = nms.integer("top_k", -1), settings.integer("keep_top_k", -1)
    return PostprocessConfig.model_validate(
        {
            "score_function": score_function,
            "score_threshold": max(settings.number("confidence_threshold", 0.0), 0.0),
            "pre_nms_top_k": best if best > 0 else None,
            "nms_iou": nms.number("nms_threshold", 0.3),
            "max_detections": keep if keep > 0 else (best if best > 0 else 1000) * (columns - 1),
            "clip": "none",
        }
    )
