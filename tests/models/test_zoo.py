"""Every model by its paper or system: parts, default boxes in pixels, spacing, clipping. Numbers are written out.

The boxes are reckoned here from the sides in pixels that the papers' scripts and the named repositories have, not by
the package's recipes. Numbers of boxes and parameters are in ``test_catalogue`` and ``test_family_presets``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest

from singleshot.core.settings import PreprocessConfig
from singleshot.models.catalogue import MODELS, model_entry, model_names, model_spec
from singleshot.models.config import L2NormConfig
from singleshot.models.zoo.mxnet import assembled_config

Sides = tuple[float, ...]


class Boxes(NamedTuple):
    """Small squares and what the big ones are geometric means with, ratios, spacing: per level, in pixels."""

    small: Sides
    large: Sides
    ratios: tuple[Sides, ...]
    steps: Sides | None
    clip: str = "none"


FEW, MANY, EIGHT = (2.0,), (2.0, 3.0), (1.6, 2.0, 3.0)
RATIOS_300 = (FEW, MANY, MANY, MANY, FEW, FEW)
RATIOS_512 = (FEW, MANY, MANY, MANY, MANY, FEW, FEW)
STEPS_300, STEPS_512 = (8, 16, 32, 64, 100, 300), (8, 16, 32, 64, 128, 256, 512)

# Caffe's layer cuts sides to whole pixels.
VOC_300 = Boxes((30, 60, 111, 162, 213, 264), (60, 111, 162, 213, 264, 315), RATIOS_300, STEPS_300)
COCO_300 = Boxes((21, 45, 99, 153, 207, 261), (45, 99, 153, 207, 261, 315), RATIOS_300, STEPS_300)
VOC_512 = Boxes((35, 76, 153, 230, 307, 384, 460), (76, 153, 230, 307, 384, 460, 537), RATIOS_512, STEPS_512)
COCO_512 = Boxes((20, 51, 133, 215, 296, 378, 460), (51, 133, 215, 296, 378, 460, 542), RATIOS_512, STEPS_512)
NVIDIA = COCO_300._replace(clip="centre")
PYTORCH_SSD = Boxes(
    (60, 105, 150, 195, 240, 285), (105, 150, 195, 240, 285, 330), (MANY,) * 6, (16, 32, 64, 100, 150, 300), "centre"
)
TORCHVISION_LITE = Boxes((64, 112, 160, 208, 256, 304), (112, 160, 208, 256, 304, 320), (MANY,) * 6, None, "size")
DSSD_321 = Boxes(
    (32.1, 64.2, 121.98, 179.76, 237.54, 295.32), (64.2, 121.98, 179.76, 237.54, 295.32, 353.1), (EIGHT,) * 6, None
)
DSSD_513 = Boxes(
    (20.52, 51.3, 138.51, 225.72, 312.93, 400.14, 487.35),
    (51.3, 138.51, 225.72, 312.93, 400.14, 487.35, 574.56),
    (EIGHT,) * 7,
    None,
)
RELEASED_321 = DSSD_321._replace(steps=(8, 16, 32, 64, 64, 321))
REFINEDET = Boxes((32, 64, 128, 256), (), (FEW,) * 4, (8, 16, 32, 64))


class Row(NamedTuple):
    """What a model is made of."""

    side: int
    backbone: str
    extras: str
    neck: str
    module: str
    head: str
    boxes: Boxes | None


TABLE = {
    "ssd300_vgg16": Row(300, "vgg16_reduced", "4 conv", "none", "none", "conv", VOC_300),
    "ssd512_vgg16": Row(512, "vgg16_reduced", "5 conv", "none", "none", "conv", VOC_512),
    "ssd300_vgg16_coco": Row(300, "vgg16_reduced", "4 conv", "none", "none", "conv", COCO_300),
    "ssd512_vgg16_coco": Row(512, "vgg16_reduced", "5 conv", "none", "none", "conv", COCO_512),
    "ssd300_vgg16_bn": Row(300, "vgg16_bn", "4 conv", "none", "none", "conv", VOC_300),
    "ssd512_vgg16_bn": Row(512, "vgg16_bn", "5 conv", "none", "none", "conv", VOC_512),
    "ssd300_resnet18": Row(300, "resnet18_nvidia", "5 conv", "none", "none", "conv", NVIDIA),
    "ssd300_resnet34": Row(300, "resnet34_nvidia", "5 conv", "none", "none", "conv", NVIDIA),
    "ssd300_resnet50": Row(300, "resnet50_nvidia", "5 conv", "none", "none", "conv", NVIDIA),
    "ssd300_resnet101": Row(300, "resnet101_nvidia", "5 conv", "none", "none", "conv", NVIDIA),
    "ssd300_resnet152": Row(300, "resnet152_nvidia", "5 conv", "none", "none", "conv", NVIDIA),
    "ssd300_mobilenet_v1": Row(300, "mobilenet_v1", "4 conv", "none", "none", "conv", PYTORCH_SSD),
    "ssdlite300_mobilenet_v2": Row(300, "mobilenet_v2_tf", "4 separable", "none", "none", "separable", None),
    "ssdlite320_mobilenet_v3_large": Row(
        320, "mobilenet_v3_large_reduced", "4 separable", "none", "none", "separable", TORCHVISION_LITE
    ),
    "ssdlite320_mobilenet_v3_large_full": Row(
        320, "mobilenet_v3_large", "4 separable", "none", "none", "separable", TORCHVISION_LITE
    ),
    "ssdlite320_mobilenet_v3_large_tf": Row(
        320, "mobilenet_v3_large_reduced_tf", "4 separable", "none", "none", "separable", None
    ),
    "ssdlite320_efficientnet_lite0": Row(
        320, "efficientnet_lite0", "4 separable", "none", "none", "separable", TORCHVISION_LITE
    ),
    "ssd321_resnet101": Row(321, "resnet101_dssd", "4 residual", "none", "c", "conv", DSSD_321),
    "ssd513_resnet101": Row(513, "resnet101_dssd", "5 residual", "none", "c", "conv", DSSD_513),
    "dssd321_resnet101": Row(321, "resnet101_dssd", "4 residual", "dssd", "c", "conv", DSSD_321),
    "dssd321_resnet101_released": Row(321, "resnet101_dssd", "4 residual", "dssd", "residual", "conv", RELEASED_321),
    "dssd513_resnet101": Row(513, "resnet101_dssd", "5 residual", "dssd", "c", "conv", DSSD_513),
    "dssd300_vgg16": Row(300, "vgg16_reduced", "4 conv", "dssd", "c", "conv", VOC_300),
    "dssd512_vgg16": Row(512, "vgg16_reduced", "5 conv", "dssd", "c", "conv", VOC_512),
    "tdm300_vgg16": Row(300, "vgg16_reduced", "4 conv", "tdm", "none", "conv", VOC_300),
    "tdm512_vgg16": Row(512, "vgg16_reduced", "5 conv", "tdm", "none", "conv", VOC_512),
    "refinedet320_vgg16": Row(320, "vgg16_refinedet", "1 conv", "tcb", "none", "conv", REFINEDET),
    "refinedet512_vgg16": Row(512, "vgg16_refinedet", "1 conv", "tcb", "none", "conv", REFINEDET),
    "refinedet320_resnet101": Row(320, "resnet101", "1 residual", "tcb", "residual", "conv", REFINEDET),
    "refinedet512_resnet101": Row(512, "resnet101", "1 residual", "tcb", "residual", "conv", REFINEDET),
}
MXNET = tuple(name for name in model_names() if name.startswith("mxnet_"))


def cell_boxes(small: float, large: float | None, ratios: Sides) -> list[tuple[float, float]]:
    """(width, height) in pixels: small square, big square, each ratio and its reciprocal."""
    squares = [(small, small)] + ([] if large is None else [(math.sqrt(small * large),) * 2])
    others = [(small * root, small / root) for a in ratios for root in (math.sqrt(a), 1 / math.sqrt(a))]
    return [*squares, *others]


def test_every_model_is_in_a_table() -> None:
    assert [*TABLE, *MXNET] == list(model_names())
    assert all(model_entry(name).name == name for name in model_names())
    assert MODELS.group == "singleshot.models"


@pytest.mark.parametrize("name", TABLE)
def test_parts(name: str) -> None:
    row, spec = TABLE[name], model_spec(name, ["a", "b", "c"])
    network = spec.network
    assert spec.name == name
    assert model_entry(name).size_hw == spec.preprocess.size_hw == (row.side, row.side)
    assert network.backbone.name == row.backbone
    assert f"{len(network.extras)} {network.extras[0].kind}" == row.extras
    assert len({block.kind for block in network.extras}) == 1
    assert (network.neck.kind, network.head.prediction_module, network.head.kind) == (row.neck, row.module, row.head)
    assert network.head.objectness == (row.neck == "tcb")
    assert network.head.logits == 4
    assert network.head.layout == spec.anchors.layout == ("shape" if row.backbone.endswith("_nvidia") else "cell")


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.boxes])
@pytest.mark.parametrize("size_hw", [None, (256, 448)])
def test_default_boxes(name: str, size_hw: tuple[int, int] | None) -> None:
    """They are fractions of the image, whose pixels are those of the size by design."""
    row, anchors = TABLE[name], model_spec(name, ["a"], size_hw).anchors
    assert row.boxes is not None
    levels = list(zip(row.boxes.small, row.boxes.large or [None] * len(row.boxes.small), row.boxes.ratios, strict=True))
    assert len(anchors.levels) == len(levels)
    for ours, (small, large, ratios) in zip(anchors.levels, levels, strict=True):
        got = [side * row.side for shape in ours.shapes_wh for side in shape]
        assert got == pytest.approx([side for shape in cell_boxes(small, large, ratios) for side in shape], abs=1e-3)
    steps = [None if level.step_hw is None else level.step_hw[0] * row.side for level in anchors.levels]
    assert steps == (pytest.approx(list(row.boxes.steps)) if row.boxes.steps else [None] * len(levels))
    assert all(level.step_hw is None or level.step_hw[0] == level.step_hw[1] for level in anchors.levels)
    assert anchors.reference_hw == ((row.side, row.side) if row.boxes.steps else None)
    assert (anchors.clip, anchors.aspect) == (row.boxes.clip, "image")


def test_default_boxes_of_tensorflow() -> None:
    """``ssd_anchor_generator``: scales .2 to .95, three boxes on the finest map, a third written .3333."""
    levels = model_spec("ssdlite300_mobilenet_v2", ["a"]).anchors.levels
    root = math.sqrt(2)
    assert [side for shape in levels[0].shapes_wh for side in shape] == pytest.approx(
        [0.1, 0.1, 0.2 * root, 0.2 / root, 0.2 / root, 0.2 * root]
    )
    for level, scale, following in zip(
        levels[1:], (0.35, 0.5, 0.65, 0.8, 0.95), (0.5, 0.65, 0.8, 0.95, 1.0), strict=True
    ):
        expected = [(scale * math.sqrt(a), scale / math.sqrt(a)) for a in (1, 2, 0.5, 3, 0.3333)]
        expected.append((math.sqrt(scale * following),) * 2)
        assert [side for shape in level.shapes_wh for side in shape] == pytest.approx(
            [side for shape in expected for side in shape]
        )
        assert level.step_hw is None


def test_norms_and_preprocessing() -> None:
    caffe = {"vgg16_reduced", "vgg16_bn", "vgg16_refinedet"}
    for name, row in TABLE.items():
        spec = model_spec(name, ["a"])
        norms = {"vgg16_reduced": (20.0,), "vgg16_bn": (20.0,), "vgg16_refinedet": (10.0, 8.0)}.get(row.backbone, ())
        assert spec.network.l2_norms == tuple(L2NormConfig(init=init) for init in norms), name
        if row.backbone in caffe or name.endswith("released"):
            assert spec.preprocess == PreprocessConfig(size_hw=(row.side, row.side)), name
        elif row.backbone.startswith("resnet"):
            mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
            expected = PreprocessConfig(size_hw=(row.side, row.side), scale=1 / 255, mean=mean, std=std)
            assert spec.preprocess == expected, name
        assert (spec.coder.order == "yxhw") == row.backbone.endswith("_tf"), name


SIZES_6 = ((0.1, 0.141421), (0.2, 0.272029), (0.37, 0.446990), (0.54, 0.619193), (0.71, 0.790443), (0.88, 0.961249))
SIZES_7 = (
    (0.07, 0.102470), (0.15, 0.212132), (0.3, 0.367423), (0.45, 0.519615), (0.6, 0.670820), (0.75, 0.821584),
    (0.9, 0.972111),
)  # fmt: skip
# Typed by hand in mxnet-ssd.
LEGACY_6 = ((0.1, 0.141), (0.2, 0.272), (0.37, 0.447), (0.54, 0.619), (0.71, 0.79), (0.88, 0.961))
LEGACY_7 = (
    (0.07, 0.1025), (0.15, 0.2121), (0.3, 0.3674), (0.45, 0.5196), (0.6, 0.6708), (0.75, 0.8216), (0.9, 0.9721),
)  # fmt: skip


@pytest.mark.parametrize("name", MXNET)
def test_mxnets_default_boxes(name: str) -> None:
    config, spec = assembled_config(name), model_spec(name, ["a"])
    side = int(next(part for part in name.split("_") if part.isdecimal()))
    assert spec.preprocess.size_hw == config.input_size_hw == (side, side)
    seven = name.startswith("mxnet_ssd_mobilenet") or ("vgg16" in name and side == 512)
    sizes = (LEGACY_7 if seven else LEGACY_6) if "legacy" in name else (SIZES_7 if seven else SIZES_6)
    ratios = RATIOS_512 if seven else RATIOS_300
    assert len(spec.anchors.levels) == len(sizes)
    for level, (small, big), others in zip(spec.anchors.levels, sizes, ratios, strict=True):
        expected = cell_boxes(small, big * big / small, others)
        assert [value for shape in level.shapes_wh for value in shape] == pytest.approx(
            [value for shape in expected for value in shape], abs=2e-6
        )
    steps = (STEPS_512 if seven else STEPS_300) if "vgg16" in name else None
    got = [None if level.step_hw is None else level.step_hw[0] * side for level in spec.anchors.levels]
    assert got == (pytest.approx(list(steps)) if steps else [None] * len(sizes))
    assert spec.anchors.aspect == "map"
