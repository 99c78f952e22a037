"""SSD (arXiv 1512.02325): on VGG16 by its authors, on ResNet by NVIDIA, on MobileNet v1 by pytorch-ssd. No torch."""

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
from singleshot.models.zoo.box_shapes import nvidia_anchors, pytorch_ssd_anchors
from singleshot.models.zoo.common import NO_CLASSES, Template, imagenet_preprocess
from singleshot.multibox.shapes import Recipe, ssd_anchors

FAMILY = "SSD"

EXTRAS_300 = (
    ExtraBlock(mid_channels=256, out_channels=512),
    ExtraBlock(mid_channels=128, out_channels=256),
    ExtraBlock(mid_channels=128, out_channels=256, stride=1, padding=0),
    ExtraBlock(mid_channels=128, out_channels=256, stride=1, padding=0),
)
EXTRAS_512 = (
    ExtraBlock(mid_channels=256, out_channels=512),
    *[ExtraBlock(mid_channels=128, out_channels=256)] * 3,
    ExtraBlock(mid_channels=128, out_channels=256, kernel=4, stride=1),
)
"""The paper's extra layers; the last block of SSD512 has a 4x4 convolution, as in the authors' Caffe models."""


def vgg16(
    name: str,
    description: str,
    side: int,
    recipe: Recipe,
    extras: tuple[ExtraBlock, ...],
    *,
    backbone: str = "vgg16_reduced",
    family: str = FAMILY,
    neck: NeckConfig = NeckConfig(),  # noqa: B008 - frozen
    prediction_module: str = "none",
) -> Template:
    """SSD with VGG16-reduced, as the authors' Caffe scripts build it; a neck and prediction modules may be added."""
    anchors = ssd_anchors(recipe, truncate=True)
    network = NetworkConfig(
        backbone=BackboneConfig(name=backbone),
        extras=extras,
        l2_norms=(L2NormConfig(),),
        neck=neck,
        head=HeadConfig(logits=NO_CLASSES, boxes_per_cell=anchors.boxes_per_cell, prediction_module=prediction_module),
    )
    return Template(
        name=name,
        family=family,
        description=description,
        network=network,
        anchors=anchors,
        preprocess=PreprocessConfig(size_hw=(side, side)),
    )


RESNET_EXTRAS = tuple(
    ExtraBlock(mid_channels=mid, out_channels=out, stride=stride, padding=padding, batch_norm=True)
    for mid, out, stride, padding in (
        (256, 512, 2, 1), (256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0),
    )
)  # fmt: skip


def _resnet(name: str, description: str, backbone: str) -> Template:
    """NVIDIA DeepLearningExamples' SSD300: COCO scales, anchors ordered shape by shape."""
    anchors = nvidia_anchors()
    return Template(
        name=name,
        family=FAMILY,
        description=description,
        network=NetworkConfig(
            backbone=BackboneConfig(name=backbone),
            extras=RESNET_EXTRAS,
            head=HeadConfig(logits=NO_CLASSES, boxes_per_cell=anchors.boxes_per_cell, layout="shape"),
        ),
        anchors=anchors,
        preprocess=imagenet_preprocess(300),
        postprocess=PostprocessConfig(score_threshold=0.05, pre_nms_top_k=200, nms_compare=">="),
    )


MOBILENET_V1 = Template(
    name="ssd300_mobilenet_v1",
    family=FAMILY,
    description="SSD300 on MobileNet v1, pytorch-ssd's",
    network=NetworkConfig(
        backbone=BackboneConfig(name="mobilenet_v1"),
        extras=(
            ExtraBlock(mid_channels=256, out_channels=512),
            *[ExtraBlock(mid_channels=128, out_channels=256)] * 3,
        ),
        head=HeadConfig(logits=NO_CLASSES, boxes_per_cell=pytorch_ssd_anchors().boxes_per_cell),
    ),
    anchors=pytorch_ssd_anchors(),
    preprocess=PreprocessConfig(size_hw=(300, 300), mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
    postprocess=PostprocessConfig(pre_nms_top_k=200),
)

MODELS = (
    vgg16("ssd300_vgg16", "SSD300 (arXiv 1512.02325), VOC scales", 300, "voc300", EXTRAS_300),
    vgg16("ssd512_vgg16", "SSD512, VOC scales", 512, "voc512", EXTRAS_512),
    vgg16("ssd300_vgg16_coco", "SSD300, COCO scales: smaller default boxes", 300, "coco300", EXTRAS_300),
    vgg16("ssd512_vgg16_coco", "SSD512, COCO scales: smaller default boxes", 512, "coco512", EXTRAS_512),
    vgg16("ssd300_vgg16_bn", "SSD300 with BatchNorm in VGG16", 300, "voc300", EXTRAS_300, backbone="vgg16_bn"),
    vgg16("ssd512_vgg16_bn", "SSD512 with BatchNorm in VGG16", 512, "voc512", EXTRAS_512, backbone="vgg16_bn"),
    _resnet("ssd300_resnet18", "SSD300 on ResNet-18 to conv4_x, as NVIDIA's", "resnet18_nvidia"),
    _resnet("ssd300_resnet34", "SSD300 on ResNet-34 to conv4_x, as NVIDIA's", "resnet34_nvidia"),
    _resnet("ssd300_resnet50", "SSD300 on ResNet-50 to conv4_x, NVIDIA's", "resnet50_nvidia"),
    _resnet("ssd300_resnet101", "SSD300 on ResNet-101 to conv4_x, as NVIDIA's", "resnet101_nvidia"),
    _resnet("ssd300_resnet152", "SSD300 on ResNet-152 to conv4_x, as NVIDIA's", "resnet152_nvidia"),
    MOBILENET_V1,
)
