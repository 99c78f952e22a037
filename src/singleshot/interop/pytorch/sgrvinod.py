"""sgrvinod/a-PyTorch-Tutorial-to-Object-Detection: SSD300 with VGG16."""

from __future__ import annotations

from singleshot.core.settings import PreprocessConfig
from singleshot.interop.pytorch.vgg_names import VGG_INDICES
from singleshot.interop.translate import Shapes, Translation, changed, columns_of, renamer, with_classes
from singleshot.models.catalogue import model_spec
from singleshot.models.config import L2NormConfig
from singleshot.models.zoo.box_shapes import sgrvinod_anchors
from singleshot.models.zoo.common import IMAGENET_MEAN, IMAGENET_STD

SOURCES = ("conv4_3", "conv7", "conv8_2", "conv9_2", "conv10_2", "conv11_2")


def translate(shapes: Shapes, origin: str) -> Translation:
    """Anchors of its own: other scales, another order of ratios, and .333 for a third."""
    columns = columns_of(shapes, "pred_convs.cl_conv4_3.weight", "pred_convs.loc_conv4_3.weight", origin)
    preprocess = PreprocessConfig(
        size_hw=(300, 300), resize="linear_antialias", scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    spec = changed(
        model_spec("ssd300_vgg16", ()),
        network={"l2_norms": (L2NormConfig(eps="outside"),)},
        anchors=sgrvinod_anchors(),
        coder={"max_log_ratio": None},
        preprocess=preprocess,
        postprocess={"pre_nms_top_k": None, "clip": "none"},
    )
    ours = {"fc6": "conv6", "fc7": "conv7"}
    prefixes = {f"backbone.{layer}": f"base.{ours.get(layer, layer)}" for layer in VGG_INDICES}
    for block in range(4):
        prefixes[f"extras.{block}.reduce.conv"] = f"aux_convs.conv{8 + block}_1"
        prefixes[f"extras.{block}.conv.conv"] = f"aux_convs.conv{8 + block}_2"
    for level, name in enumerate(SOURCES):
        prefixes[f"head.boxes.{level}"] = f"pred_convs.loc_{name}"
        prefixes[f"head.logits.{level}"] = f"pred_convs.cl_{name}"
    return Translation(with_classes(spec, columns), renamer(prefixes | {"norms.0.scale": "rescale_factors"}))
