"""The dialect of TensorFlow's SSDLite MobileNetV2: what its numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from singleshot.classes import COCO_IDS, COCO_NAMES
from singleshot.errors import WeightsError
from singleshot.models.catalogue import model_spec
from singleshot.models.config import ModelSpec
from singleshot.weights.importers.report import ImportReport
from singleshot.weights.importers.tensorflow_names import Converter, convert_ssdlite_mobilenet_v2

if TYPE_CHECKING:
    from torch import Tensor

NAME = "ssdlite300_mobilenet_v2"
COCO_COLUMNS = 91
INFRASTRUCTURE = ("Postprocessor/", "Preprocessor/", "ConstantFolding/", "MultipleGridAnchorGenerator/")
"""Arrays that are no weights: constants of the graph's own resize, anchors and decoding, which our spec expresses."""


def convert_arrays(
    arrays: Mapping[str, np.ndarray], origin: str, source: str
) -> tuple[ModelSpec, dict[str, Tensor], ImportReport]:
    """Convert the arrays of an SSDLite MobileNetV2, whatever file they were in.

    Args:
        arrays: by node name.
        origin: the file, for messages.
        source: the importer, for the report.

    Raises:
        WeightsError: an array is missing, has another shape, or they are of another network.
    """
    converter = convert_ssdlite_mobilenet_v2(arrays, origin)
    spec = spec_of_ssdlite_mobilenet_v2(converter)
    _check_shapes(spec, converter)
    weights = [name for name, value in arrays.items() if value.dtype.kind == "f" and value.size > 1]
    left_over = [name for name in weights if name not in converter.used and not name.startswith(INFRASTRUCTURE)]
    notes = ["box codes are (y, x, h, w), scores are sigmoids, as in the graph"]
    if converter.folded:
        notes.append(
            f"{len(converter.folded)} BatchNorms came folded, without statistics: exact for prediction; before "
            "training call singleshot.weights.calibrate.restore_statistics with some images, or freeze them"
        )
    return (
        spec,
        converter.state,
        ImportReport(source, spec.name, tuple(converter.mapped), tuple(left_over), (), tuple(notes)),
    )


def _check_shapes(spec: ModelSpec, converter: Converter) -> None:
    import torch

    from singleshot.models.build import build_network

    with torch.device("meta"):
        own = build_network(spec.network).state_dict()
    for name, value in converter.state.items():
        if name not in own or own[name].shape != value.shape or not bool(torch.isfinite(value).all()):
            raise WeightsError(
                f"{converter.origin}: '{name}' has the shape {tuple(value.shape)} or is not finite: damaged"
            )


def spec_of_ssdlite_mobilenet_v2(converter: Converter) -> ModelSpec:
    """The spec of a converted network: 91 columns are COCO's category ids, any other count numbers its classes.

    Raises:
        WeightsError: the number of logits is not a multiple of the boxes per cell.
    """
    channels = len(converter.state["head.logits.0.pointwise.bias"])
    per_cell = len(converter.state["head.boxes.0.pointwise.bias"]) // 4
    if per_cell != 3 or channels % per_cell or channels == per_cell:
        raise WeightsError(
            f"{converter.origin}: the first predictor has {channels} logits for {per_cell} boxes per cell; "
            "known is only the export with 3 boxes per cell there"
        )
    columns = channels // per_cell
    is_coco = columns == COCO_COLUMNS
    names = COCO_NAMES if is_coco else tuple(f"class_{index}" for index in range(1, columns))
    spec = model_spec(NAME, names)
    network = spec.network.model_copy(update={"head": spec.network.head.model_copy(update={"logits": columns})})
    # The graph's exponent is not limited, and its resize is TensorFlow 1's.
    changes: dict[str, Any] = {
        "network": network,
        "coder": spec.coder.model_copy(update={"max_log_ratio": None}),
        "preprocess": spec.preprocess.model_copy(update={"resize": "linear_legacy"}),
    }
    if is_coco:
        changes["postprocess"] = spec.postprocess.model_copy(update={"class_columns": COCO_IDS})
        changes["class_ids"] = COCO_IDS
    return ModelSpec.model_validate(spec.model_copy(update=changes).model_dump())
