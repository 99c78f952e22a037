"""RefineDet (arXiv 1711.06897): anchors refined by a first stage, classified by a second one. No torch."""

from __future__ import annotations

from singleshot.core.settings import AnchorConfig, PostprocessConfig, PreprocessConfig
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


def _head(anchors: AnchorConfig, prediction_module: str = "none") -> HeadConfig:
    return HeadConfig(
        logits=NO_CLASSES,
        boxes_per_cell=anchors.boxes_per_cell,
        objectness=True,
        prediction_module=prediction_module,
    )


def _vgg16(anchors: AnchorConfig) -> NetworkConfig:
    return NetworkConfig(
        backbone=BackboneConfig(name="vgg16_refinedet"),
        extras=(ExtraBlock(mid_channels=256, out_channels=512),),
        l2_norms=(L2NormConfig(init=10.0), L2NormConfig(init=8.0)),
        neck=NeckConfig(kind="tcb"),
        head=_head(anchors),
    )


def _resnet101(anchors: AnchorConfig) -> NetworkConfig:
    return NetworkConfig(
        backbone=BackboneConfig(name="resnet101"),
        extras=(ExtraBlock(kind="residual", mid_channels=128, out_channels=512, batch_norm=True),),
        neck=NeckConfig(kind="tcb", batch_norm=True, deconvolution_norm=True),
        head=_head(anchors, "residual"),
    )


ANCHORS_320, ANCHORS_512 = refinedet_anchors(320), refinedet_anchors(512)
POSTPROCESS = PostprocessConfig(pre_nms_top_k=1000, max_detections=500)

MODELS = (
    Template(
        name="refinedet320_vgg16",
        family=FAMILY,
        description="RefineDet320 (arXiv 1711.06897)",
        network=_vgg16(ANCHORS_320),
        anchors=ANCHORS_320,
        preprocess=PreprocessConfig(size_hw=(320, 320)),
        postprocess=POSTPROCESS,
    ),
    Template(
        name="refinedet512_vgg16",
        family=FAMILY,
        description="RefineDet512 (arXiv 1711.06897)",
        network=_vgg16(ANCHORS_512),
        anchors=ANCHORS_512,
        preprocess=PreprocessConfig(size_hw=(512, 512)),
        postprocess=POSTPROCESS,
    ),
    Template(
        name="refinedet320_resnet101",
        family=FAMILY,
        description="RefineDet320 on ResNet-101",
        network=_resnet101(ANCHORS_320),
        anchors=ANCHORS_320,
        preprocess=imagenet_preprocess(320),
        postprocess=POSTPROCESS,
    ),
    Template(
        name="refinedet512_resnet101",
        family=FAMILY,
        description="RefineDet512 on ResNet-101",
        network=_resnet101(ANCHORS_512),
        anchors=ANCHORS_512,
        preprocess=imagenet_preprocess(512),
        postprocess=POSTPROCESS,
    ),
)
