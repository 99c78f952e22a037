"""The ``pipeline.config`` that the TensorFlow Object Detection API writes beside what it exports."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from singleshot.core.settings import PostprocessConfig
from singleshot.errors import WeightsError
from singleshot.interop.wire.prototxt import Message, read_prototxt

FILE = "pipeline.config"
RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
ANCHOR_FIELDS = {"num_layers", "min_scale", "max_scale", "aspect_ratios", "reduce_boxes_in_lowest_layer"}
CODER = {"y_scale": 10.0, "x_scale": 10.0, "height_scale": 5.0, "width_scale": 5.0}
MIN_SCORE = 0.01
"""Configurations say 1e-8, which makes every anchor a candidate for every class; the AP is the same to four digits."""
DIGITS = 6
"""Of numbers that were stored as float32: 0.20000000298 means 0.2."""


class Pipeline(NamedTuple):
    """What decides how the numbers of a graph are used; the defaults are those of all samples of the API.

    Attributes:
        size: side of the square network input, where it is known.
        min_scale, max_scale, ratios: of the default boxes.
        reduce_lowest: whether the first level has three boxes only.
        postprocess: scores and suppression.
    """

    size: int | None = None
    min_scale: float = 0.2
    max_scale: float = 0.95
    ratios: tuple[float, ...] = RATIOS
    reduce_lowest: bool = True
    postprocess: PostprocessConfig = PostprocessConfig(
        score_function="sigmoid", pre_nms_top_k=None, nms_iou=0.6, max_per_class=100, max_detections=100
    )


def read_pipeline(folder: Path) -> Pipeline | None:
    """The settings beside a graph, if there are any.

    Raises:
        WeightsError: the file is damaged, or says something that is not supported.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    ssd = read_prototxt(path).message("model").message("ssd")
    try:
        return _pipeline(ssd)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error


def _pipeline(ssd: Message) -> Pipeline:
    if not ssd.entries:
        raise ValueError("no model { ssd { ... } } in it")
    if not ssd.flag("add_background_class", True):
        raise ValueError("its logits have no column for background (add_background_class: false): not supported")
    anchors = ssd.message("anchor_generator").message("ssd_anchor_generator")
    unknown = sorted(anchors.entries.keys() - ANCHOR_FIELDS)
    if "ssd_anchor_generator" not in ssd.message("anchor_generator") or unknown:
        raise ValueError(f"its anchor generator is not supported ({', '.join(unknown) or 'no ssd_anchor_generator'})")
    coder = ssd.message("box_coder").message("faster_rcnn_box_coder")
    if "faster_rcnn_box_coder" not in ssd.message("box_coder") or any(
        coder.number(name, value) != value for name, value in CODER.items()
    ):
        raise ValueError("its box coder is not the Faster R-CNN one with scales of 10, 10, 5 and 5")
    return Pipeline(
        _size(ssd.message("image_resizer")),
        round(anchors.number("min_scale", 0.2), DIGITS),
        round(anchors.number("max_scale", 0.95), DIGITS),
        tuple(round(ratio, DIGITS) for ratio in anchors.numbers("aspect_ratios")) or RATIOS,
        anchors.flag("reduce_boxes_in_lowest_layer", True),
        _postprocess(ssd.message("post_processing")),
    )


def _size(resizer: Message) -> int:
    fixed = resizer.message("fixed_shape_resizer")
    height, width = (fixed.integer(name, 0) for name in ("height", "width"))
    if height != width or height < 1:
        raise ValueError(f"its input is {height} x {width}: supported is a fixed_shape_resizer to a square")
    if fixed.text("resize_method", "BILINEAR") != "BILINEAR":
        raise ValueError(f"it resizes by {fixed.text('resize_method')}, supported is BILINEAR")
    return height


def _postprocess(settings: Message) -> PostprocessConfig:
    converter = settings.text("score_converter", "SIGMOID")
    if converter not in ("SIGMOID", "SOFTMAX"):
        raise ValueError(f"its score_converter is {converter}: supported are SIGMOID and SOFTMAX")
    scale = settings.number("logit_scale", 1.0)
    if scale != 1:
        raise ValueError(f"it divides logits by {scale:g} (logit_scale): supported is 1")
    nms = settings.message("batch_non_max_suppression")
    if nms.flag("use_class_agnostic_nms", False) or nms.number("soft_nms_sigma", 0.0):
        raise ValueError("its NMS is soft or across classes: supported is that of each class by itself")
    default = Pipeline().postprocess
    return default.model_copy(
        update={
            "score_function": "softmax" if converter == "SOFTMAX" else "sigmoid",
            "score_threshold": max(nms.number("score_threshold", 0.0), MIN_SCORE),
            "nms_iou": round(nms.number("iou_threshold", default.nms_iou), DIGITS),
            "max_per_class": nms.integer("max_detections_per_class", 100),
            "max_detections": nms.integer("max_total_detections", 100),
        }
    )
