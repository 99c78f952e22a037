"""The dialect of the TensorFlow Object Detection API's SSDs: what their numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from singleshot.core.boxes import cxcywh_to_xyxy
from singleshot.errors import WeightsError
from singleshot.interop.fill import Imported, fill
from singleshot.interop.tensorflow.names import (
    BATCH_NORM_EPS,
    SUPPORTED,
    Converter,
    NameLayout,
    convert_layers,
    read_layout,
)
from singleshot.interop.tensorflow.pipeline import FILE, Pipeline, read_pipeline
from singleshot.interop.translate import COCO_COLUMNS, classes_of
from singleshot.models.build import assemble_network, build_anchors
from singleshot.models.catalogue import model_spec
from singleshot.models.config import BackboneConfig, ExtraBlock, HeadConfig, ModelSpec, NetworkConfig
from singleshot.models.zoo.box_shapes import tf_anchors

CATALOGUE = {
    "ssdlite_mobilenet_v2": "ssdlite300_mobilenet_v2",
    "ssdlite_mobilenet_v3_large": "ssdlite320_mobilenet_v3_large_tf",
}
"""The catalogue's models of this API by its name for them."""
BACKBONES = {1: "mobilenet_v1_tf", 2: "mobilenet_v2_tf", 3: "mobilenet_v3_large_reduced_tf"}
LIKE = CATALOGUE["ssdlite_mobilenet_v2"]
"""Coder, pixels and thresholds are the same for all of them."""
DEFAULT_SIZE = 300
SIZES = range(32, 4097)
ANCHOR_TOLERANCE = 1e-3
FEW = 64
"""Numbers that are too few to be the default boxes of a whole network."""
TFLITE_INPUT, TFLITE_ANCHORS = "normalized_input_image_tensor", "anchors"
"""Of graphs that were exported for TFLite: a placeholder, and the default boxes as centre and size, y before x."""
INFRASTRUCTURE = (
    "Postprocessor/", "Preprocessor/", "ConstantFolding/", "MultipleGridAnchorGenerator/", TFLITE_ANCHORS
)  # fmt: skip
"""Arrays that are no weights: constants of the graph's own resize, anchors and decoding, which our spec expresses."""


def convert_arrays(arrays: Mapping[str, np.ndarray], path: Path, source: str) -> Imported:
    """Convert the arrays of an SSD, whatever file they were in.

    Args:
        arrays: by node name.
        path: the file; a ``pipeline.config`` beside it is taken into account.
        source: the importer, for the report.

    Raises:
        WeightsError: an array is missing, has another shape, or they are of another network.
    """
    layout = read_layout(arrays, str(path))
    converter = convert_layers(arrays, layout, str(path))
    given = read_pipeline(path.parent)
    pipeline = given or Pipeline(reduce_lowest=_outputs(converter, layout, "boxes", 0) == 3 * 4)
    pipeline = pipeline._replace(size=_size(arrays) or pipeline.size or DEFAULT_SIZE)
    spec = _spec(converter, layout, pipeline)
    weights = [
        name
        for name, value in arrays.items()
        if value.dtype.kind == "f" and value.size > 1 and not name.startswith(INFRASTRUCTURE)
    ]
    notes = ["box codes are (y, x, h, w), scores are sigmoids, as the API has them"]
    if given:
        notes[0] = f"box codes are (y, x, h, w); default boxes, scores and thresholds are those of {FILE}"
    elif TFLITE_ANCHORS in arrays:
        notes[0] += "; default boxes equal those that it stores"
    elif layout.name != "ssdlite_mobilenet_v2":
        notes.append(f"no {FILE} beside it: default boxes have scales of .2 to .95 and the usual ratios")
    if converter.folded:
        notes.append(
            f"{len(converter.folded)} BatchNorms came folded, without statistics: exact for prediction; before "
            "training call singleshot.interop.calibrate.restore_statistics with some images, or freeze them"
        )
    filled = fill(spec, converter.parts, weights, source, path, notes, f"damaged, or another network; {SUPPORTED}")
    _check_anchors(spec, converter.origin, arrays)
    return filled


def _size(arrays: Mapping[str, np.ndarray]) -> int | None:
    """Side of the network input by the constant of the graph's own resize, or by its placeholder.

    Raises:
        WeightsError: the input is not square.
    """
    for name, value in arrays.items():
        is_resize = name.startswith("Preprocessor/") and "ResizeImage" in name and value.shape == (2,)
        if value.dtype.kind == "i" and (is_resize or (name == TFLITE_INPUT and value.shape == (4,))):
            height, width = (int(side) for side in (value if is_resize else value[1:3]))
            if height == width and height in SIZES:
                return height
            if height in SIZES and width in SIZES:
                raise WeightsError(f"'{name}': the input is {height} x {width}; {SUPPORTED}, and square inputs")
    return None


def _outputs(converter: Converter, layout: NameLayout, kind: str, level: int) -> int:
    """Channels of a predictor."""
    last = ".pointwise" if layout.depthwise_heads else ""
    value = converter.parts[f"head.{kind}.{level}{last}.bias"].value
    return 0 if value is None else len(value)


def _spec(converter: Converter, layout: NameLayout, pipeline: Pipeline) -> ModelSpec:
    """The spec of a converted network: 91 columns are COCO's category ids, any other count numbers its classes.

    Raises:
        WeightsError: the predictors do not fit the default boxes.
    """
    levels = 2 + len(layout.blocks)
    anchors = tf_anchors(levels, pipeline.min_scale, pipeline.max_scale, pipeline.ratios, pipeline.reduce_lowest)
    found = tuple(_outputs(converter, layout, "boxes", level) // 4 for level in range(levels))
    channels = _outputs(converter, layout, "logits", 0)
    if found != anchors.boxes_per_cell or channels % found[0] or channels == found[0]:
        raise WeightsError(
            f"{converter.origin}: its predictors have {found} boxes per cell and {channels} logits in the first level; "
            f"the default boxes make it {anchors.boxes_per_cell}: put its {FILE} beside it"
        )
    columns = channels // found[0]
    classes = classes_of(columns) if columns == COCO_COLUMNS else None
    names = classes.names if classes else tuple(f"class_{index}" for index in range(1, columns))
    size_hw = (pipeline.size or DEFAULT_SIZE,) * 2
    like = model_spec(LIKE, names, size_hw)
    # The graph's exponent is not limited, and its resize is TensorFlow 1's.
    changes: dict[str, Any] = {
        "name": CATALOGUE.get(layout.name, layout.name),
        "anchors": anchors,
        "network": _network(layout, anchors.boxes_per_cell, columns),
        "coder": like.coder.model_copy(update={"max_log_ratio": None}),
        "preprocess": like.preprocess.model_copy(update={"resize": "linear_legacy"}),
        "postprocess": pipeline.postprocess,
    }
    if classes:
        changes["postprocess"] = pipeline.postprocess.model_copy(update={"class_columns": classes.columns})
        changes["class_ids"] = classes.ids
    return ModelSpec.model_validate(like.model_copy(update=changes).model_dump())


def _network(layout: NameLayout, boxes_per_cell: tuple[int, ...], columns: int) -> NetworkConfig:
    extras = tuple(
        ExtraBlock(
            kind="separable" if layout.depthwise_blocks else "conv",
            mid_channels=mid,
            out_channels=out,
            padding="same",
            batch_norm=True,
            activation="relu6",
        )
        for mid, out in layout.blocks
    )
    heads: dict[str, Any] = {"kind": "separable"} if layout.depthwise_heads else {"kernel": layout.kernel}
    return NetworkConfig(
        backbone=BackboneConfig(name=BACKBONES[layout.version]),
        extras=extras,
        head=HeadConfig(logits=columns, boxes_per_cell=boxes_per_cell, **heads),
        batch_norm_eps=BATCH_NORM_EPS,
    )


def _check_anchors(spec: ModelSpec, origin: str, arrays: Mapping[str, np.ndarray]) -> None:
    """The graph's own anchors, where it stores them, are ours."""
    stored = {
        name: value.reshape(-1, 4)
        for name, value in arrays.items()
        if (name == TFLITE_ANCHORS or name.startswith("Postprocessor/"))
        and (value.dtype.kind == "f" and value.shape[-1:] == (4,) and value.size > FEW)
    }
    if not stored:
        return
    with torch.device("meta"):
        network = assemble_network(spec.network)
    centres = build_anchors(spec, network) / spec.preprocess.size_hw[0]
    for name, theirs in stored.items():
        ours = (centres if name == TFLITE_ANCHORS else cxcywh_to_xyxy(centres))[:, [1, 0, 3, 2]].numpy()
        if theirs.shape != ours.shape or np.abs(theirs - ours).max() > ANCHOR_TOLERANCE:
            raise WeightsError(f"{origin}: it stores default boxes that differ from ours: put its {FILE} beside it")
