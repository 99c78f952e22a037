"""NVIDIA DeepLearningExamples' SSD300 with ResNet-50."""

from __future__ import annotations

from singleshot.interop.pytorch.vgg_names import head_prefixes
from singleshot.interop.translate import Shapes, Translation, changed, columns_of, renamer, with_classes
from singleshot.models.catalogue import model_spec

FEATURES = "feature_extractor.feature_extractor."
UNITS_OF_STAGE_3 = {2: 18, 6: 50, 23: 101}


def translate(shapes: Shapes, origin: str) -> Translation:
    """The depth is read from the number of units and their kind; head channels are counted code by code."""
    columns = columns_of(shapes, "conf.0.weight", "loc.0.weight", origin)
    units = sum(name.startswith(f"{FEATURES}6.") and name.endswith(".conv1.weight") for name in shapes)
    depth = UNITS_OF_STAGE_3.get(units, 50)
    if depth == 50 and f"{FEATURES}4.0.conv3.weight" not in shapes:
        depth = 34
    spec = changed(
        model_spec(f"ssd300_resnet{depth}", ()),
        coder={"max_log_ratio": None},
        preprocess={"resize": "linear_antialias"},
        postprocess={"score_threshold": 0.05, "nms_iou": 0.5, "nms_compare": ">=", "clip": "none"},
    )
    prefixes = {"backbone.conv1": f"{FEATURES}0", "backbone.bn1": f"{FEATURES}1"}
    prefixes |= {f"backbone.layer{stage}": f"{FEATURES}{3 + stage}" for stage in (1, 2, 3)}
    for block in range(5):
        for part, conv, norm in (("reduce", 0, 1), ("conv", 3, 4)):
            prefixes[f"extras.{block}.{part}.conv"] = f"additional_blocks.{block}.{conv}"
            prefixes[f"extras.{block}.{part}.bn"] = f"additional_blocks.{block}.{norm}"
    prefixes |= head_prefixes(6, "loc.", "conf.")
    return Translation(with_classes(spec, columns), renamer(prefixes), grouped_by_code=True)
