"""SSD (arXiv 1512.02325): on VGG16 by its authors, on ResNet by NVIDIA, on MobileNet v1 by pytorch-ssd. No torch."""

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
from singleshot.models.zoo.box_shapes import nvidia_anchors, pytorch_ssd_anchors
from singleshot.models.zoo.common import NO_CLASSES, Template, imagenet_preprocess
from singleshot.multibox.shapes import ssd_anchors

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


def vgg16_network(
    anchors: AnchorConfig,
    extras: tuple[ExtraBlock, ...],
    neck: NeckConfig = NeckConfig(),  # noqa: B008 - frozen
    prediction_module: str = "none",
) -> NetworkConfig:
    """SSD with VGG16-reduced, as the authors' Caffe scripts build it; a neck and prediction modules may be added."""
    return NetworkConfig(
        backbone=BackboneConfig(name="vgg16_reduced"),
        extras=extras,
        l2_norms=(L2NormConfig(),),
        neck=neck,
        head=HeadConfig(logits=NO_CLASSES, boxes_per_cell=anchors.boxes_per_cell, prediction_module=prediction_module),
    )


VOC_300, VOC_512 = ssd_anchors("voc300", truncate=True), ssd_anchors("voc512", truncate=True)
COCO_300, COCO_512 = ssd_anchors("coco300", truncate=True), ssd_anchors("coco512", truncate=True)
INPUT_300, INPUT_512 = PreprocessConfig(size_hw=(300, 300)), PreprocessConfig(size_hw=(512, 512))

VGG16 = (
    Template(
        name="ssd300_vgg16",
        family=FAMILY,
        description="SSD300 (arXiv 1512.02325), VOC scales",
        network=vgg16_network(VOC_300, EXTRAS_300),
        anchors=VOC_300,
        preprocess=INPUT_300,
    ),
    Template(
        name="ssd512_vgg16",
        family=FAMILY,
        description="SSD512, VOC scales",
        network=vgg16_network(VOC_512, EXTRAS_512),
        anchors=VOC_512,
        preprocess=INPUT_512,
    ),
    Template(
        name="ssd300_vgg16_coco",
        family=FAMILY,
        description="SSD300, COCO scales: smaller default boxes",
        network=vgg16_network(COCO_300, EXTRAS_300),
        anchors=COCO_300,
        preprocess=INPUT_300,
    ),
    Template(
        name="ssd512_vgg16_coco",
        family=FAMILY,
        description="SSD512, COCO scales: smaller default boxes",
        network=vgg16_network(COCO_512, EXTRAS_512),
        anchors=COCO_512,
        preprocess=INPUT_512,
    ),
)

RESNET_EXTRAS = tuple(
    ExtraBlock(mid_channels=mid, out_channels=out, stride=stride, padding=padding, batch_norm=True)
    for mid, out, stride, padding in (
        (256, 512, 2, 1),
        (256, 512, 2, 1),
        (128, 256, 2, 1),
        (128, 256, 1, 0),
        (128, 256, 1, 0),
    )
)


def _resnet(name: str, backbone: str, description: str) -> Template:
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


RESNET = (
    _resnet("ssd300_resnet18", "resnet18_nvidia", "SSD300 on ResNet-18 to conv4_x, as NVIDIA's"),
    _resnet("ssd300_resnet34", "resnet34_nvidia", "SSD300 on ResNet-34 to conv4_x, as NVIDIA's"),
    _resnet("ssd300_resnet50", "resnet50_nvidia", "SSD300 on ResNet-50 to conv4_x, NVIDIA's"),
    _resnet("ssd300_resnet101", "resnet101_nvidia", "SSD300 on ResNet-101 to conv4_x, as NVIDIA's"),
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

MODELS = (*VGG16, *RESNET, MOBILENET_V1)
