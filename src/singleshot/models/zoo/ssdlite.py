"""SSDLite (arXiv 1801.04381, section 6.2): separable extra blocks and heads on a mobile backbone. No torch."""

from __future__ import annotations

from typing import Literal

from singleshot.core.settings import AnchorConfig, CoderConfig, PostprocessConfig, PreprocessConfig
from singleshot.models.config import BackboneConfig, ExtraBlock, HeadConfig, NetworkConfig
from singleshot.models.zoo.box_shapes import tf_anchors, torchvision_ssdlite_anchors
from singleshot.models.zoo.common import NO_CLASSES, Template

FAMILY = "SSDLite"
CHANNELS = ((256, 512), (128, 256), (128, 256), (64, 128))
"""(first 1x1, output) of the appended blocks."""


def _network(backbone: str, anchors: AnchorConfig, padding: int | Literal["same"]) -> NetworkConfig:
    """Four separable extra blocks and separable heads, BatchNorm eps 1e-3 (TF, torchvision)."""
    extras = tuple(
        ExtraBlock(
            kind="separable", mid_channels=mid, out_channels=out, padding=padding, batch_norm=True, activation="relu6"
        )
        for mid, out in CHANNELS
    )
    return NetworkConfig(
        backbone=BackboneConfig(name=backbone),
        extras=extras,
        head=HeadConfig(kind="separable", logits=NO_CLASSES, boxes_per_cell=anchors.boxes_per_cell),
        batch_norm_eps=1e-3,
    )


def _tensorflow(name: str, description: str, backbone: str, side: int) -> Template:
    """The bundled detectors' conventions: SAME padding, sigmoid scores, codes in the order y, x, h, w."""
    return Template(
        name=name,
        family=FAMILY,
        description=description,
        network=_network(backbone, tf_anchors(), "same"),
        anchors=tf_anchors(),
        coder=CoderConfig(order="yxhw"),
        preprocess=PreprocessConfig(size_hw=(side, side), scale=2 / 255, mean=(1.0, 1.0, 1.0)),
        postprocess=PostprocessConfig(
            score_function="sigmoid", pre_nms_top_k=None, nms_iou=0.6, max_per_class=100, max_detections=100
        ),
    )


def _torchvision(name: str, description: str, backbone: str, padding: int | Literal["same"] = 1) -> Template:
    """torchvision's SSDLite."""
    anchors = torchvision_ssdlite_anchors()
    return Template(
        name=name,
        family=FAMILY,
        description=description,
        network=_network(backbone, anchors, padding),
        anchors=anchors,
        preprocess=PreprocessConfig(size_hw=(320, 320), scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        postprocess=PostprocessConfig(
            score_threshold=0.001, pre_nms_top_k=300, nms_iou=0.55, max_detections=300, clip="before"
        ),
    )


MODELS = (
    _tensorflow(
        "ssdlite300_mobilenet_v2",
        "SSDLite (arXiv 1801.04381), TensorFlow's graph of 2018-05-09",
        "mobilenet_v2_tf",
        300,
    ),
    _torchvision(
        "ssdlite320_mobilenet_v3_large",
        "torchvision's SSDLite, MobileNetV3 with reduced tail",
        "mobilenet_v3_large_reduced",
    ),
    _torchvision(
        "ssdlite320_mobilenet_v3_large_full",
        "the same, with the full tail that ImageNet weights fit",
        "mobilenet_v3_large",
    ),
    _tensorflow(
        "ssdlite320_mobilenet_v3_large_tf",
        "TensorFlow's graph of 2020-01-14, MobileNetV3 with reduced tail",
        "mobilenet_v3_large_reduced_tf",
        320,
    ),
    _torchvision(
        "ssdlite320_efficientnet_lite0",
        "torchvision's SSDLite on EfficientNet-Lite0",
        "efficientnet_lite0",
        "same",
    ),
)
