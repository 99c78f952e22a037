"""DSSD (arXiv 1701.06659): deconvolution and prediction modules, on ResNet-101 and on SSD's VGG16. No torch."""

from __future__ import annotations

from typing import Literal

from singleshot.core.settings import PreprocessConfig
from singleshot.models.config import BackboneConfig, ExtraBlock, HeadConfig, NeckConfig, NetworkConfig
from singleshot.models.zoo import ssd
from singleshot.models.zoo.box_shapes import dssd321_released_anchors, dssd_anchors
from singleshot.models.zoo.common import NO_CLASSES, Template, imagenet_preprocess, upsampling
from singleshot.multibox.shapes import Recipe

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


def _resnet101(
    name: str,
    description: str,
    side: Literal[321, 513],
    extras: tuple[ExtraBlock, ...],
    neck: NeckConfig = NeckConfig(),  # noqa: B008 - frozen
) -> Template:
    """ResNet-101 with prediction module (c), with and without the deconvolution."""
    anchors = dssd_anchors(side)
    network = NetworkConfig(
        backbone=BackboneConfig(name="resnet101_dssd"),
        extras=extras,
        neck=neck,
        head=HeadConfig(logits=NO_CLASSES, boxes_per_cell=anchors.boxes_per_cell, prediction_module="c"),
    )
    return Template(
        name=name,
        family=FAMILY,
        description=description,
        network=network,
        anchors=anchors,
        preprocess=imagenet_preprocess(side),
    )


# By the released scripts, which differ from the paper's figures: see docs/family.md.
RELEASED = Template(
    name="dssd321_resnet101_released",
    family=FAMILY,
    description="DSSD321 as its authors' scripts build it",
    network=NetworkConfig(
        backbone=BackboneConfig(name="resnet101_dssd", batch_norm_eps=RELEASED_EPS),
        extras=RELEASED_EXTRAS,
        neck=_deconvolution(RELEASED_EXTRAS).model_copy(update={"deconvolution_bias": True}),
        head=HeadConfig(
            logits=NO_CLASSES,
            boxes_per_cell=dssd321_released_anchors().boxes_per_cell,
            kernels=(5, 5, 3, 3, 3, 3),
            prediction_module="residual",
        ),
        batch_norm_eps=RELEASED_EPS,
    ),
    anchors=dssd321_released_anchors(),
    preprocess=PreprocessConfig(size_hw=(321, 321)),
)


def _vgg16(name: str, description: str, side: int, recipe: Recipe, extras: tuple[ExtraBlock, ...]) -> Template:
    neck = _deconvolution(extras)
    return ssd.vgg16(name, description, side, recipe, extras, family=FAMILY, neck=neck, prediction_module="c")


MODELS = (
    _resnet101("ssd321_resnet101", "SSD321 of the DSSD paper: its first training stage", 321, EXTRAS_321),
    _resnet101("ssd513_resnet101", "SSD513 of the DSSD paper: its first training stage", 513, EXTRAS_513),
    _resnet101("dssd321_resnet101", "DSSD321 (arXiv 1701.06659)", 321, EXTRAS_321, _deconvolution(EXTRAS_321)),
    RELEASED,
    _resnet101("dssd513_resnet101", "DSSD513 (arXiv 1701.06659)", 513, EXTRAS_513, _deconvolution(EXTRAS_513)),
    _vgg16("dssd300_vgg16", "SSD300 with DSSD's deconvolution and prediction modules", 300, "voc300", ssd.EXTRAS_300),
    _vgg16("dssd512_vgg16", "SSD512 with DSSD's deconvolution and prediction modules", 512, "voc512", ssd.EXTRAS_512),
)
