"""RefineDet (arXiv 1711.06897): anchors refined by a first stage, classified by a second one. No torch."""

from __future__ import annotations

from singleshot.core.settings import PostprocessConfig, PreprocessConfig
from singleshot.models.config import (
    BackboneConfig,
    ExtraBlock,
    HeadConfig,
    L2NormConfig,
    NeckConfig,
    NetworkConfig,
)
from singleshot.models.zoo.box_shapes import refinedet_anchors
from singleshot.models.zoo.common import NO_CLASSES, Template, imagenet_preprocess

FAMILY = "RefineDet"


def _refinedet(name: str, description: str, network: NetworkConfig, preprocess: PreprocessConfig) -> Template:
    """Three default boxes in every cell; the first stage's heads read the sources."""
    return Template(
        name=name,
        family=FAMILY,
        description=description,
        network=network,
        anchors=refinedet_anchors(preprocess.size_hw[0]),
        preprocess=preprocess,
        postprocess=PostprocessConfig(pre_nms_top_k=1000, max_detections=500),
    )


BOXES_PER_CELL = (3, 3, 3, 3)
VGG16 = NetworkConfig(
    backbone=BackboneConfig(name="vgg16_refinedet"),
    extras=(ExtraBlock(mid_channels=256, out_channels=512),),
    l2_norms=(L2NormConfig(init=10.0), L2NormConfig(init=8.0)),
    neck=NeckConfig(kind="tcb"),
    head=HeadConfig(logits=NO_CLASSES, boxes_per_cell=BOXES_PER_CELL, objectness=True),
)
RESNET101 = NetworkConfig(
    backbone=BackboneConfig(name="resnet101"),
    extras=(ExtraBlock(kind="residual", mid_channels=128, out_channels=512, batch_norm=True),),
    neck=NeckConfig(kind="tcb", batch_norm=True, deconvolution_norm=True),
    head=HeadConfig(logits=NO_CLASSES, boxes_per_cell=BOXES_PER_CELL, objectness=True, prediction_module="residual"),
)

MODELS = (
    _refinedet("refinedet320_vgg16", "RefineDet320 (arXiv 1711.06897)", VGG16, PreprocessConfig(size_hw=(320, 320))),
    _refinedet("refinedet512_vgg16", "RefineDet512 (arXiv 1711.06897)", VGG16, PreprocessConfig(size_hw=(512, 512))),
    _refinedet("refinedet320_resnet101", "RefineDet320 on ResNet-101", RESNET101, imagenet_preprocess(320)),
    _refinedet("refinedet512_resnet101", "RefineDet512 on ResNet-101", RESNET101, imagenet_preprocess(512)),
)
