"""The dialect of TensorFlow's SSDLite MobileNetV2: what its numbers mean."""

from __future__ import annotations

from typing import Any

from singleshot.classes import COCO_IDS, COCO_NAMES
from singleshot.errors import WeightsError
from singleshot.models.catalogue import model_spec
from singleshot.models.config import ModelSpec
from singleshot.weights.importers.tensorflow_names import Converter

NAME = "ssdlite300_mobilenet_v2"
COCO_COLUMNS = 91


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
