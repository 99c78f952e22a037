"""What stands before and behind a raw network in an exported file: from pictures, to boxes or detections.

It is built once, as ONNX nodes; each format that runs ONNX's operators puts its raw network in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.postprocess import HeadGeometry, class_columns
from singleshot.export import graph_onnx, graph_pictures
from singleshot.export.info import DECODED, DETECTIONS, HEADS, ExportInfo
from singleshot.export.onnx_nodes import Nodes

End = tuple[str, type[np.generic], tuple[int | str, ...]]
"""Name, type and shape of an input or output; a text in a shape is a size that varies."""

IMAGES = "images"
"""Input of the raw network, ``[B, 3, H, W]``; of a file of the levels raw and decoded, too."""
PICTURES = "pictures"


class Shell(NamedTuple):
    """Nodes around a raw network.

    Attributes:
        before: from `PICTURES` to `IMAGES`; empty but for the level end2end.
        behind: from `HEADS` on; empty for the level raw.
        inputs, outputs: of the whole file.
        heads: what the raw network gives.
        images: what the raw network takes.
        thresholds: names of constants that a caller may replace.
    """

    before: Nodes
    behind: Nodes
    inputs: list[End]
    outputs: list[End]
    heads: list[End]
    images: End
    thresholds: tuple[str, ...] = ()


def refusal(info: ExportInfo) -> str | None:
    """Why the nodes cannot carry a detector, and the remedy; ``None`` where they can."""
    if info.level != "end2end":
        return None
    reason = graph_onnx.refusal(info.spec.postprocess)
    if reason:
        return f"{reason}: take `level='decoded'`"
    if info.dynamic and not graph_pictures.fits(info.spec.preprocess):
        resize = info.spec.preprocess.resize
        return (
            f"no operator resizes as its `preprocess.resize={resize}` does: leave `dynamic` out, or take another level"
        )
    return None


def build_shell(info: ExportInfo, anchors_cxcywh: NDArray[np.float32], suppresses_at: bool, branches: bool) -> Shell:
    """The nodes that a file needs.

    Args:
        info: what it will be.
        anchors_cxcywh: default boxes, ``[A, 4]``.
        suppresses_at: as in `graph_onnx.detection_nodes`.
        branches: as in `graph_pictures.picture_nodes`.
    """
    spec = info.spec
    height, width = spec.preprocess.size_hw
    count, columns = len(anchors_cxcywh), spec.network.head.logits
    widths = (4, columns, 4, 2) if spec.network.head.objectness else (4, columns)
    heads: list[End] = [(name, np.float32, ("batch", count, size)) for name, size in zip(HEADS, widths, strict=False)]
    before, behind = Nodes(PICTURES), Nodes("detections")
    images: End = (IMAGES, np.float32, ("batch", 3, height, width))
    if info.level == "raw":
        return Shell(before, behind, [images], heads, heads, images)
    names = [name for name, _, _ in heads]
    geometry = HeadGeometry(anchors_cxcywh, spec.coder, spec.preprocess.size_hw, len(spec.class_names))
    settings = info.postprocess
    classes = len(class_columns(columns, settings, len(spec.class_names)))
    decoded = graph_onnx.decoded_nodes(behind, names, columns, geometry, settings, by_class=info.level == "end2end")
    if info.level == "decoded":
        outputs = _named(behind, decoded, DECODED)
        ends = _ends(outputs, [("batch", count, 4), ("batch", count, classes)])
        return Shell(before, behind, [images], ends, heads, images)
    sides = ("height", "width") if info.dynamic else (height, width)
    shape = ("batch", *sides, 3) if info.layout == "nhwc" else ("batch", 3, *sides)
    made = graph_pictures.picture_nodes(before, PICTURES, spec.preprocess, info.layout, info.dynamic, branches)
    before.rename(made, IMAGES)
    found = graph_onnx.detection_nodes(behind, decoded, classes, geometry, settings, suppresses_at)
    boxes = (
        graph_pictures.placed_nodes(behind, found[0], PICTURES, info.layout, geometry.size_hw)
        if info.dynamic
        else found[0]
    )
    outputs = _named(behind, (boxes, *found[1:]), DETECTIONS)
    shapes = (("batch", "detections", 4), ("batch", "detections"), ("batch", "detections"), ("batch",))
    ends = _ends(outputs, shapes)
    return Shell(before, behind, [(PICTURES, np.uint8, shape)], ends, heads, images, graph_onnx.THRESHOLDS)


def _named(nodes: Nodes, made: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    for old, new in zip(made, names, strict=True):
        nodes.rename(old, new)
    return names


def _ends(names: Sequence[str], shapes: Sequence[tuple[int | str, ...]]) -> list[End]:
    whole = {"class_ids", "counts"}
    return [(name, np.int64 if name in whole else np.float32, shape) for name, shape in zip(names, shapes, strict=True)]
