"""Detectors by name. Importing this never imports torch.

A catalogue name gives a whole ``ModelSpec`` for any class names and any input size; the anchors of a recipe are
fractions of the image, so they follow the size.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Literal

from singleshot.core.settings import AnchorConfig, CoderConfig, PostprocessConfig, PreprocessConfig
from singleshot.errors import ConfigError
from singleshot.models.config import (
    BackboneConfig,
    ExtraBlock,
    HeadConfig,
    L2NormConfig,
    ModelSpec,
    NetworkConfig,
)
from singleshot.models.zoo.box_shapes import Recipe, ssd_anchors, tf_anchors, torchvision_ssdlite_anchors

SizeHW = tuple[int, int]
SpecBuilder = Callable[[str, tuple[str, ...], SizeHW], ModelSpec]

MORE_MODULES = ("singleshot.models.zoo.dssd", "singleshot.models.zoo.mxnet")
"""Modules beside this one that register models."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A named detector.

    Attributes:
        name: what ``--model`` and ``singleshot models`` call it.
        description: one line.
        size_hw: input size it was designed for.
        build: ``(name, class_names, size_hw) -> ModelSpec``.
    """

    name: str
    description: str
    size_hw: SizeHW
    build: SpecBuilder


_entries: dict[str, Entry] = {}


def register_model(name: str, description: str, size_hw: SizeHW) -> Callable[[SpecBuilder], SpecBuilder]:
    """Register the decorated function as a detector's builder; may be stacked (the lowest comes first).

    Raises:
        ValueError: the name is taken.
    """

    def register(build: SpecBuilder) -> SpecBuilder:
        if name in _entries:
            raise ValueError(f"model '{name}' is registered twice")
        _entries[name] = Entry(name, description, size_hw, build)
        return build

    return register


@cache
def _import_more() -> None:
    for module in MORE_MODULES:
        import_module(module)


def model_names() -> tuple[str, ...]:
    """Names of all detectors, in the order of registration."""
    _import_more()
    return tuple(_entries)


def model_entry(name: str) -> Entry:
    """The catalogue entry of a name.

    Raises:
        ConfigError: there is none; the message names similar ones.
    """
    _import_more()
    if name not in _entries:
        close = difflib.get_close_matches(name, _entries, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "'singleshot models' lists them"
        raise ConfigError(f"no model '{name}'; {hint}")
    return _entries[name]


def model_spec(name: str, class_names: Sequence[str], size_hw: SizeHW | None = None) -> ModelSpec:
    """Everything about a detector besides its numbers.

    Args:
        name: of the catalogue.
        class_names: public classes 0..C-1.
        size_hw: network input; ``None`` takes the one it was designed for. Sides need not be equal.

    Raises:
        ConfigError: no such model, or class names that repeat.
    """
    entry = model_entry(name)
    names = tuple(class_names)
    repeated = sorted({one for one in names if names.count(one) > 1})
    if repeated:
        raise ConfigError(f"class_names must differ; repeated: {', '.join(repeated)}")
    return entry.build(name, names, size_hw or entry.size_hw)


SSD_EXTRAS_300 = (
    ExtraBlock(mid_channels=256, out_channels=512),
    ExtraBlock(mid_channels=128, out_channels=256),
    ExtraBlock(mid_channels=128, out_channels=256, stride=1, padding=0),
    ExtraBlock(mid_channels=128, out_channels=256, stride=1, padding=0),
)
SSD_EXTRAS_512 = (
    ExtraBlock(mid_channels=256, out_channels=512),
    *[ExtraBlock(mid_channels=128, out_channels=256)] * 3,
    ExtraBlock(mid_channels=128, out_channels=256, kernel=4, stride=1),
)
"""The paper's extra layers; the last block of SSD512 has a 4x4 convolution, as in the authors' Caffe models."""


@register_model("ssd512_vgg16_coco", "SSD512, COCO scales: smaller default boxes", (512, 512))
@register_model("ssd300_vgg16_coco", "SSD300, COCO scales: smaller default boxes", (300, 300))
@register_model("ssd512_vgg16", "SSD512, VOC scales", (512, 512))
@register_model("ssd300_vgg16", "SSD300 (arXiv 1512.02325), VOC scales", (300, 300))
def ssd_vgg16(name: str, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
    """SSD with VGG16-reduced, as the authors' Caffe scripts build it."""
    is_300, is_coco = "300" in name, name.endswith("coco")
    recipes: dict[tuple[bool, bool], Recipe] = {
        (True, False): "voc300", (True, True): "coco300", (False, False): "voc512", (False, True): "coco512",
    }  # fmt: skip
    anchors = ssd_anchors(recipes[is_300, is_coco], truncate=True)
    network = NetworkConfig(
        backbone=BackboneConfig(name="vgg16_reduced"),
        extras=SSD_EXTRAS_300 if is_300 else SSD_EXTRAS_512,
        l2_norms=(L2NormConfig(),),
        head=HeadConfig(logits=len(class_names) + 1, boxes_per_cell=anchors.boxes_per_cell),
    )
    preprocess = PreprocessConfig(size_hw=size_hw)
    return ModelSpec(name=name, network=network, anchors=anchors, preprocess=preprocess, class_names=class_names)


def ssdlite_network(
    backbone: str, anchors: AnchorConfig, logits: int, padding: int | Literal["same"], mid_channels: tuple[int, ...]
) -> NetworkConfig:
    """SSDLite: four separable extra blocks and separable heads, BatchNorm eps 1e-3 (TF, torchvision).

    Args:
        backbone: registered name.
        anchors: tell the boxes per cell.
        logits: columns, background included.
        padding: of the extra blocks.
        mid_channels: of the extra blocks' first 1x1.
    """
    extras = [
        ExtraBlock(
            kind="separable", mid_channels=mid, out_channels=out, padding=padding, batch_norm=True, activation="relu6"
        )
        for mid, out in zip(mid_channels, (512, 256, 256, 128), strict=True)
    ]
    return NetworkConfig(
        backbone=BackboneConfig(name=backbone),
        extras=tuple(extras),
        head=HeadConfig(kind="separable", logits=logits, boxes_per_cell=anchors.boxes_per_cell),
        batch_norm_eps=1e-3,
    )


@register_model("ssdlite300_mobilenet_v2", "SSDLite (arXiv 1801.04381), TensorFlow's graph of 2018-05-09", (300, 300))
def ssdlite_mobilenet_v2(name: str, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
    """The bundled detector's network and conventions: SAME padding, sigmoid scores, codes in the order y, x, h, w."""
    anchors = tf_anchors()
    return ModelSpec(
        name=name,
        network=ssdlite_network("mobilenet_v2_tf", anchors, len(class_names) + 1, "same", (256, 128, 128, 64)),
        anchors=anchors,
        coder=CoderConfig(order="yxhw"),
        preprocess=PreprocessConfig(size_hw=size_hw, scale=2 / 255, mean=(1.0, 1.0, 1.0)),
        postprocess=PostprocessConfig(
            score_function="sigmoid", pre_nms_top_k=None, nms_iou=0.6, max_per_class=100, max_detections=100
        ),
        class_names=class_names,
    )


@register_model(
    "ssdlite320_mobilenet_v3_large_full", "the same, with the full tail that ImageNet weights fit", (320, 320)
)
@register_model("ssdlite320_mobilenet_v3_large", "torchvision's SSDLite, MobileNetV3 with reduced tail", (320, 320))
def ssdlite_mobilenet_v3(name: str, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
    """torchvision's SSDLite."""
    backbone = "mobilenet_v3_large" if name.endswith("full") else "mobilenet_v3_large_reduced"
    anchors = torchvision_ssdlite_anchors()
    return ModelSpec(
        name=name,
        network=ssdlite_network(backbone, anchors, len(class_names) + 1, 1, (256, 128, 128, 64)),
        anchors=anchors,
        preprocess=PreprocessConfig(size_hw=size_hw, scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        postprocess=PostprocessConfig(
            score_threshold=0.001, pre_nms_top_k=300, nms_iou=0.55, max_detections=300, clip="before"
        ),
        class_names=class_names,
    )
