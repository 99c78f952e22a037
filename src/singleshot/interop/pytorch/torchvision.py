"""torchvision's ``ssd300_vgg16`` and ``ssdlite320_mobilenet_v3_large``."""

from __future__ import annotations

from singleshot.interop.pytorch.mobilenet_names import conv_norm
from singleshot.interop.pytorch.vgg_names import head_prefixes, paired_extras, vgg_prefixes
from singleshot.interop.translate import Shapes, Translation, changed, columns_of, renamer, with_classes
from singleshot.models.catalogue import model_spec
from singleshot.models.config import L2NormConfig
from singleshot.models.zoo.box_shapes import torchvision_ssd300_anchors

BOXES, LOGITS = "head.regression_head.module_list.", "head.classification_head.module_list."
FULL_TAIL_CHANNELS = 960


def translate(shapes: Shapes, origin: str) -> Translation:
    """Tell VGG from MobileNet, and read the tail and the classes from the shapes."""
    return _vgg(shapes, origin) if "backbone.scale_weight" in shapes else _mobilenet(shapes, origin)


def _vgg(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.weight", f"{BOXES}0.weight", origin)
    spec = model_spec("ssd300_vgg16", ())
    spec = changed(
        spec,
        network={"l2_norms": (L2NormConfig(eps="max"),)},
        anchors=torchvision_ssd300_anchors(),
        preprocess={
            "resize": "linear_float", "scale": 1 / 255, "mean": (0.48235, 0.45882, 0.40784), "std": (1 / 255,) * 3,
        },
        postprocess={"clip": "before"},
    )  # fmt: skip
    prefixes = vgg_prefixes("backbone.features.")
    # torchvision keeps what follows pool4 in the first "extra" sequence.
    prefixes |= {f"backbone.conv5_{index}": f"backbone.extra.0.{2 * index - 1}" for index in (1, 2, 3)}
    prefixes |= {"backbone.fc6": "backbone.extra.0.7.1", "backbone.fc7": "backbone.extra.0.7.3"}
    prefixes |= paired_extras(4, "backbone.extra.", first=1)
    prefixes |= {"norms.0.scale": "backbone.scale_weight"} | head_prefixes(6, BOXES, LOGITS)
    return Translation(with_classes(spec, columns), renamer(prefixes))


def _mobilenet(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.1.weight", f"{BOXES}0.1.weight", origin)
    is_full = shapes.get("backbone.features.1.3.0.weight", (0,))[0] == FULL_TAIL_CHANNELS
    spec = model_spec(f"ssdlite320_mobilenet_v3_large{'_full' if is_full else ''}", ())
    spec = changed(spec, preprocess={"resize": "linear_float"})
    return Translation(with_classes(spec, columns), renamer(_mobilenet_prefixes()))


def _mobilenet_prefixes() -> dict[str, str]:
    prefixes = conv_norm("backbone.stem", "backbone.features.0.0")
    for block in range(1, 16):
        # Block 13 is split between the two halves of the features: its expansion ends the first.
        path = f"backbone.features.0.{block}.block" if block <= 12 else f"backbone.features.1.{block - 13}.block"
        path = "backbone.features.1.0" if block == 13 else path
        parts = (["expand"] if block not in (1, 13) else []) + ["depthwise"]
        parts += (["squeeze"] if block in (4, 5, 6, 11, 12, 13, 14, 15) else []) + ["project"]
        first = 1 if block == 13 else 0
        for index, part in enumerate(parts, first):
            prefixes |= _part(f"backbone.block{block}", part, f"{path}.{index}", block)
    prefixes |= conv_norm("backbone.block13_expand", "backbone.features.0.13")
    prefixes |= conv_norm("backbone.last", "backbone.features.1.3")
    for block in range(4):
        for index, part in enumerate(("reduce", "depthwise", "project")):
            prefixes |= conv_norm(f"extras.{block}.{part}", f"backbone.extra.{block}.{index}")
    for level in range(6):
        for ours, theirs in (("boxes", BOXES), ("logits", LOGITS)):
            prefixes |= conv_norm(f"head.{ours}.{level}.depthwise", f"{theirs}{level}.0")
            prefixes[f"head.{ours}.{level}.pointwise"] = f"{theirs}{level}.1"
    return prefixes


def _part(ours: str, part: str, theirs: str, block: int) -> dict[str, str]:
    if part == "squeeze":
        return {f"{ours}.squeeze": theirs}
    # A block without a shortcut keeps its expansion as a layer of its own, see backbones/mobilenet_v3.py.
    is_apart = part == "expand" and block in (2, 4, 7, 11)
    return conv_norm(f"{ours}_expand" if is_apart else f"{ours}.{part}", theirs)
