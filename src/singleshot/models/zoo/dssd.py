"""The family by name: SSD on ResNet and MobileNet v1, DSSD, TDM and RefineDet by their papers. No torch."""

from __future__ import annotations

from singleshot.core.settings import AnchorConfig, PostprocessConfig, PreprocessConfig
from singleshot.models.catalogue import SizeHW, register_model, ssd_vgg16
from singleshot.models.config import (
    BackboneConfig,
    ExtraBlock,
    HeadConfig,
    L2NormConfig,
    ModelSpec,
    NeckConfig,
    NetworkConfig,
)
from singleshot.models.zoo.assembled import upsampling
from singleshot.models.zoo.box_shapes import (
    PixelSizes,
    dssd321_released_anchors,
    dssd_anchors,
    pixel_levels,
    refinedet_anchors,
    ssd_anchors,
)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RELEASED_EPS = 1e-3
BOTH_TAPS = 2
"""Sources that VGG16-reduced and DSSD's ResNet give; the others are appended."""


def _imagenet(size_hw: SizeHW) -> PreprocessConfig:
    """What torchvision's ResNet weights were trained with."""
    return PreprocessConfig(size_hw=size_hw, scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD)


@register_model("ssd300_resnet101", "SSD300 on ResNet-101 to conv4_x, as NVIDIA's", (300, 300))
@register_model("ssd300_resnet50", "SSD300 on ResNet-50 to conv4_x, NVIDIA's", (300, 300))
@register_model("ssd300_resnet34", "SSD300 on ResNet-34 to conv4_x, as NVIDIA's", (300, 300))
@register_model("ssd300_resnet18", "SSD300 on ResNet-18 to conv4_x, as NVIDIA's", (300, 300))
def ssd300_resnet(name: str, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
    """NVIDIA DeepLearningExamples' SSD300: COCO scales, anchors ordered shape by shape."""
    anchors = ssd_anchors("coco300", clip="centre").model_copy(update={"layout": "shape"})
    blocks = ((256, 512, 2, 1), (256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0))
    extras = tuple(
        ExtraBlock(mid_channels=mid, out_channels=out, stride=stride, padding=pad, batch_norm=True)
        for mid, out, stride, pad in blocks
    )
    network = NetworkConfig(
        backbone=BackboneConfig(name=name.removeprefix("ssd300_") + "_nvidia"),
        extras=extras,
        head=HeadConfig(logits=len(class_names) + 1, boxes_per_cell=anchors.boxes_per_cell, layout="shape"),
    )
    return ModelSpec(
        name=name,
        network=network,
        anchors=anchors,
        preprocess=_imagenet(size_hw),
        postprocess=PostprocessConfig(score_threshold=0.05, pre_nms_top_k=200, nms_compare=">="),
        class_names=class_names,
    )


@register_model("ssd300_mobilenet_v1", "SSD300 on MobileNet v1, pytorch-ssd's", (300, 300))
def ssd300_mobilenet_v1(name: str, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
    """qfgaohao/pytorch-ssd's ``mb1-ssd``: six boxes in every cell (3,000 at 300)."""
    sizes = PixelSizes((60.0, 105.0, 150.0, 195.0, 240.0, 285.0), (105.0, 150.0, 195.0, 240.0, 285.0, 330.0))
    levels = pixel_levels(sizes, [(2.0, 3.0)] * 6, (300, 300), (16.0, 32.0, 64.0, 100.0, 150.0, 300.0))
    anchors = AnchorConfig(levels=levels, reference_hw=(300, 300), clip="centre")
    extras = [ExtraBlock(mid_channels=256, out_channels=512), *[ExtraBlock(mid_channels=128, out_channels=256)] * 3]
    network = NetworkConfig(
        backbone=BackboneConfig(name="mobilenet_v1"),
        extras=tuple(extras),
        head=HeadConfig(logits=len(class_names) + 1, boxes_per_cell=anchors.boxes_per_cell),
    )
    return ModelSpec(
        name=name,
        network=network,
        anchors=anchors,
        preprocess=PreprocessConfig(size_hw=size_hw, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
        postprocess=PostprocessConfig(pre_nms_top_k=200),
        class_names=class_names,
    )


def _residual(kernel: int = 3, stride: int = 2, padding: int = 1) -> ExtraBlock:
    return ExtraBlock(
        kind="residual",
        mid_channels=256,
        out_channels=1024,
        kernel=kernel,
        stride=stride,
        padding=padding,
        batch_norm=True,
    )


# Maps 20 10 5 3 1 and 32 16 8 4 2 1: kernels that no padding spoils, undone by deconvolutions of the same kernel.
DSSD_EXTRAS_321 = (_residual(), _residual(2, 2, 0), _residual(3, 1, 0), _residual(3, 1, 0))
DSSD_EXTRAS_513 = (_residual(), _residual(), _residual(), _residual(), _residual(2, 1, 0))


@register_model("dssd513_resnet101", "DSSD513 (arXiv 1701.06659)", (513, 513))
@register_model("dssd321_resnet101", "DSSD321 (arXiv 1701.06659)", (321, 321))
@register_model("ssd513_resnet101", "SSD513 of the DSSD paper: its first training stage", (513, 513))
@register_model("ssd321_resnet101", "SSD321 of the DSSD paper: its first training stage", (321, 321))
def dssd_resnet101(name: str, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
    """DSSD on ResNet-101, and the SSD without deconvolution that it starts from; prediction module (c) in both."""
    is_321 = "321" in name
    anchors = dssd_anchors(321 if is_321 else 513)
    extras = DSSD_EXTRAS_321 if is_321 else DSSD_EXTRAS_513
    neck = NeckConfig(kind="dssd", upsampling=upsampling(BOTH_TAPS, extras)) if name[0] == "d" else NeckConfig()
    network = NetworkConfig(
        backbone=BackboneConfig(name="resnet101_dssd"),
        extras=extras,
        neck=neck,
        head=HeadConfig(logits=len(class_names) + 1, boxes_per_cell=anchors.boxes_per_cell, prediction_module="c"),
    )
    preprocess = _imagenet(size_hw)
    return ModelSpec(name=name, network=network, anchors=anchors, preprocess=preprocess, class_names=class_names)


# 20 10 5 3 1 by windows that fit exactly, on both branches of each block.
RELEASED_WINDOWS = ((2, 2), (2, 2), (3, 1), (3, 1))


@register_model("dssd321_resnet101_released", "DSSD321 as its authors' scripts build it", (321, 321))
def dssd321_resnet101_released(name: str, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
    """DSSD321 by the released scripts, which differ from the paper's figures: see docs/family.md."""
    anchors = dssd321_released_anchors()
    extras = tuple(
        _residual(kernel, stride, 0).model_copy(update={"window": "branches"}) for kernel, stride in RELEASED_WINDOWS
    )
    network = NetworkConfig(
        backbone=BackboneConfig(name="resnet101_dssd", batch_norm_eps=RELEASED_EPS),
        extras=extras,
        neck=NeckConfig(kind="dssd", upsampling=upsampling(BOTH_TAPS, extras), deconvolution_bias=True),
        head=HeadConfig(
            logits=len(class_names) + 1,
            boxes_per_cell=anchors.boxes_per_cell,
            kernels=(5, 5, *[3] * (len(anchors.levels) - 2)),
            prediction_module="residual",
        ),
        batch_norm_eps=RELEASED_EPS,
    )
    preprocess = PreprocessConfig(size_hw=size_hw)
    return ModelSpec(name=name, network=network, anchors=anchors, preprocess=preprocess, class_names=class_names)


@register_model("tdm512_vgg16", "SSD512 with top-down modulation (arXiv 1612.06851)", (512, 512))
@register_model("tdm300_vgg16", "SSD300 with top-down modulation (arXiv 1612.06851)", (300, 300))
@register_model("dssd512_vgg16", "SSD512 with DSSD's deconvolution and prediction modules", (512, 512))
@register_model("dssd300_vgg16", "SSD300 with DSSD's deconvolution and prediction modules", (300, 300))
def vgg16_with_neck(name: str, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
    """SSD on VGG16-reduced with a neck 512 channels wide."""
    kind = name[: name.index("_") - 3]
    plain = ssd_vgg16(f"ssd{name.removeprefix(kind)}", class_names, size_hw)
    if kind == "tdm":
        neck, head = NeckConfig(kind="tdm"), plain.network.head
    else:
        neck = NeckConfig(kind="dssd", upsampling=upsampling(BOTH_TAPS, plain.network.extras))
        head = plain.network.head.model_copy(update={"prediction_module": "c"})
    changes = {"neck": neck, "head": head}
    return plain.model_copy(update={"name": name, "network": plain.network.model_copy(update=changes)})


@register_model("refinedet512_resnet101", "RefineDet512 on ResNet-101", (512, 512))
@register_model("refinedet320_resnet101", "RefineDet320 on ResNet-101", (320, 320))
@register_model("refinedet512_vgg16", "RefineDet512 (arXiv 1711.06897)", (512, 512))
@register_model("refinedet320_vgg16", "RefineDet320 (arXiv 1711.06897)", (320, 320))
def refinedet(name: str, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
    """RefineDet: anchors refined by a first stage, classified by a second one."""
    anchors = refinedet_anchors(320 if "320" in name else 512)
    build = _refinedet_vgg16 if name.endswith("vgg16") else _refinedet_resnet101
    head = HeadConfig(logits=len(class_names) + 1, boxes_per_cell=anchors.boxes_per_cell, objectness=True)
    return ModelSpec(
        name=name,
        network=build(head),
        anchors=anchors,
        preprocess=PreprocessConfig(size_hw=size_hw) if name.endswith("vgg16") else _imagenet(size_hw),
        postprocess=PostprocessConfig(pre_nms_top_k=1000, max_detections=500),
        class_names=class_names,
    )


def _refinedet_vgg16(head: HeadConfig) -> NetworkConfig:
    return NetworkConfig(
        backbone=BackboneConfig(name="vgg16_refinedet"),
        extras=(ExtraBlock(mid_channels=256, out_channels=512),),
        l2_norms=(L2NormConfig(init=10.0), L2NormConfig(init=8.0)),
        neck=NeckConfig(kind="tcb"),
        head=head,
    )


def _refinedet_resnet101(head: HeadConfig) -> NetworkConfig:
    return NetworkConfig(
        backbone=BackboneConfig(name="resnet101"),
        extras=(ExtraBlock(kind="residual", mid_channels=128, out_channels=512, batch_norm=True),),
        neck=NeckConfig(kind="tcb", batch_norm=True, deconvolution_norm=True),
        head=head.model_copy(update={"prediction_module": "residual"}),
    )
