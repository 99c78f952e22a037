"""DSSD (arXiv 1701.06659): deconvolution and prediction modules, on ResNet-101 and on SSD's VGG16. No torch."""

from __future__ import annotations

from singleshot.core.settings import AnchorConfig, PreprocessConfig
from singleshot.models.config import BackboneConfig, ExtraBlock, HeadConfig, NeckConfig, NetworkConfig
from singleshot.models.zoo import ssd
from singleshot.models.zoo.box_shapes import dssd321_released_anchors, dssd_anchors
from singleshot.models.zoo.common import NO_CLASSES, Template, imagenet_preprocess, upsampling

FAMILY = "DSSD"
RELEASED_EPS = 1e-3
TAPS = 2
"""Sources that VGG16-reduced and DSSD's ResNet give; the others are appended."""


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
EXTRAS_321 = (_residual(), _residual(2, 2, 0), _residual(3, 1, 0), _residual(3, 1, 0))
EXTRAS_513 = (_residual(), _residual(), _residual(), _residual(), _residual(2, 1, 0))
# 20 10 5 3 1 by windows that fit exactly, on both branches of each block.
RELEASED_EXTRAS = tuple(
    _residual(kernel, stride, 0).model_copy(update={"window": "branches"})
    for kernel, stride in ((2, 2), (2, 2), (3, 1), (3, 1))
)


def _deconvolution(extras: tuple[ExtraBlock, ...]) -> NeckConfig:
    return NeckConfig(kind="dssd", upsampling=upsampling(TAPS, extras))


def _network(
    anchors: AnchorConfig,
    extras: tuple[ExtraBlock, ...],
    neck: NeckConfig = NeckConfig(),  # noqa: B008 - frozen
) -> NetworkConfig:
    """ResNet-101 with prediction module (c), with and without the deconvolution."""
    return NetworkConfig(
        backbone=BackboneConfig(name="resnet101_dssd"),
        extras=extras,
        neck=neck,
        head=HeadConfig(logits=NO_CLASSES, boxes_per_cell=anchors.boxes_per_cell, prediction_module="c"),
    )


def _released_network(anchors: AnchorConfig) -> NetworkConfig:
    """DSSD321 by the released scripts, which differ from the paper's figures: see docs/family.md."""
    return NetworkConfig(
        backbone=BackboneConfig(name="resnet101_dssd", batch_norm_eps=RELEASED_EPS),
        extras=RELEASED_EXTRAS,
        neck=_deconvolution(RELEASED_EXTRAS).model_copy(update={"deconvolution_bias": True}),
        head=HeadConfig(
            logits=NO_CLASSES,
            boxes_per_cell=anchors.boxes_per_cell,
            kernels=(5, 5, *[3] * (len(anchors.levels) - 2)),
            prediction_module="residual",
        ),
        batch_norm_eps=RELEASED_EPS,
    )


ANCHORS_321, ANCHORS_513, RELEASED_ANCHORS = dssd_anchors(321), dssd_anchors(513), dssd321_released_anchors()

MODELS = (
    Template(
        name="ssd321_resnet101",
        family=FAMILY,
        description="SSD321 of the DSSD paper: its first training stage",
        network=_network(ANCHORS_321, EXTRAS_321),
        anchors=ANCHORS_321,
        preprocess=imagenet_preprocess(321),
    ),
    Template(
        name="ssd513_resnet101",
        family=FAMILY,
        description="SSD513 of the DSSD paper: its first training stage",
        network=_network(ANCHORS_513, EXTRAS_513),
        anchors=ANCHORS_513,
        preprocess=imagenet_preprocess(513),
    ),
    Template(
        name="dssd321_resnet101",
        family=FAMILY,
        description="DSSD321 (arXiv 1701.06659)",
        network=_network(ANCHORS_321, EXTRAS_321, _deconvolution(EXTRAS_321)),
        anchors=ANCHORS_321,
        preprocess=imagenet_preprocess(321),
    ),
    Template(
        name="dssd321_resnet101_released",
        family=FAMILY,
        description="DSSD321 as its authors' scripts build it",
        network=_released_network(RELEASED_ANCHORS),
        anchors=RELEASED_ANCHORS,
        preprocess=PreprocessConfig(size_hw=(321, 321)),
    ),
    Template(
        name="dssd513_resnet101",
        family=FAMILY,
        description="DSSD513 (arXiv 1701.06659)",
        network=_network(ANCHORS_513, EXTRAS_513, _deconvolution(EXTRAS_513)),
        anchors=ANCHORS_513,
        preprocess=imagenet_preprocess(513),
    ),
    Template(
        name="dssd300_vgg16",
        family=FAMILY,
        description="SSD300 with DSSD's deconvolution and prediction modules",
        network=ssd.vgg16_network(ssd.VOC_300, ssd.EXTRAS_300, _deconvolution(ssd.EXTRAS_300), "c"),
        anchors=ssd.VOC_300,
        preprocess=ssd.INPUT_300,
    ),
    Template(
        name="dssd512_vgg16",
        family=FAMILY,
        description="SSD512 with DSSD's deconvolution and prediction modules",
        network=ssd.vgg16_network(ssd.VOC_512, ssd.EXTRAS_512, _deconvolution(ssd.EXTRAS_512), "c"),
        anchors=ssd.VOC_512,
        preprocess=ssd.INPUT_512,
    ),
)
