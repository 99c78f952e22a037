"""amdegroot/ssd.pytorch: SSD300 with VGG16."""

from __future__ import annotations

from singleshot.core.class_names import VOC_NAMES
from singleshot.errors import WeightsError
from singleshot.interop.pytorch.vgg_names import flat_extras, head_prefixes, vgg_prefixes
from singleshot.interop.translate import Shapes, Translation, best_per_class, changed, columns_of, renamer, with_classes
from singleshot.models.catalogue import model_spec
from singleshot.models.config import L2NormConfig
from singleshot.multibox.shapes import ssd_anchors

BEST_PER_CLASS = 200


def translate(shapes: Shapes, origin: str) -> Translation:
    """VOC's anchors for 20 classes and COCO's for any other number, as ssd.pytorch itself chooses."""
    if "loc.6.weight" in shapes:
        raise WeightsError(f"{origin}: seven feature maps; ssd.pytorch defines SSD300 only, which has six")
    columns = columns_of(shapes, "conf.0.weight", "loc.0.weight", origin)
    is_voc = columns == len(VOC_NAMES) + 1
    spec = changed(
        model_spec("ssd300_vgg16" if is_voc else "ssd300_vgg16_coco", ()),
        network={"l2_norms": (L2NormConfig(eps="outside"),)},
        anchors=ssd_anchors("voc300" if is_voc else "coco300", clip="centre"),
        coder={"max_log_ratio": None},
        # Its limit over all classes has no effect: what it reports is up to 200 objects of every class.
        postprocess=best_per_class(BEST_PER_CLASS, columns),
    )
    prefixes = vgg_prefixes("vgg.") | flat_extras(4, "extras.") | head_prefixes(6, "loc.", "conf.")
    notes = () if is_voc else ("other than 20 classes: ssd.pytorch then has COCO's anchors, and so has this",)
    return Translation(with_classes(spec, columns), renamer(prefixes | {"norms.0.scale": "L2Norm.weight"}), notes=notes)
