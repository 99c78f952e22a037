"""qfgaohao/pytorch-ssd: VGG, MobileNet v1 (SSD and lite), MobileNet v2 lite, SqueezeNet lite."""

from __future__ import annotations

from singleshot.core.settings import AnchorConfig
from singleshot.interop.pytorch.mobilenet_names import (
    FLAT,
    block_prefixes,
    conv_norm,
    mobilenet_v2_prefixes,
    separable_heads,
)
from singleshot.interop.pytorch.vgg_names import head_prefixes, paired_extras, vgg_prefixes
from singleshot.interop.translate import (
    Shapes,
    Translation,
    best_per_class,
    changed,
    columns_of,
    renamer,
    translate_by_mark,
    with_classes,
)
from singleshot.models.backbones.squeezenet import FIRES
from singleshot.models.catalogue import model_spec
from singleshot.models.config import BackboneConfig, ExtraBlock, HeadConfig, L2NormConfig, ModelSpec
from singleshot.multibox.shapes import ssd_anchors

BOXES, LOGITS = "regression_headers.", "classification_headers."
BEST_PER_CLASS = 200


def translate(shapes: Shapes, origin: str) -> Translation:
    """The names of the base network and of the heads tell which of the five it is."""
    builders = {
        "source_layer_add_ons.0.weight": _vgg,
        "base_net.3.squeeze.weight": _squeezenet_lite,
        "base_net.1.conv.0.weight": _mobilenet_v2_lite,
        f"{LOGITS}0.2.weight": _mobilenet_v1_lite,
        "base_net.1.3.weight": _mobilenet_v1,
    }
    return translate_by_mark(builders, shapes, origin, "pytorch-ssd with a base network")


UNION_EPS = 1e-5
"""Its IoU of boxes as fractions of the image divides by union + 1e-5."""


def _dialect(spec: ModelSpec, columns: int) -> ModelSpec:
    """Up to 200 candidates of every class, and no limit over all."""
    postprocess = best_per_class(BEST_PER_CLASS, columns) | {"nms_union_eps": UNION_EPS}
    return with_classes(changed(spec, coder={"max_log_ratio": None}, postprocess=postprocess), columns)


def _vgg(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.weight", f"{BOXES}0.weight", origin)
    spec = changed(
        model_spec("ssd300_vgg16", ()),
        network={"l2_norms": (L2NormConfig(batch_norm=True),)},
        anchors=ssd_anchors("voc300", clip="centre"),
    )
    prefixes = vgg_prefixes("base_net.") | paired_extras(4, "extras.") | head_prefixes(6, BOXES, LOGITS)
    return Translation(_dialect(spec, columns), renamer(prefixes | {"norms.0": "source_layer_add_ons.0"}))


def _mobilenet_v1(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.weight", f"{BOXES}0.weight", origin)
    prefixes = _mobilenet_v1_prefixes() | paired_extras(4, "extras.") | head_prefixes(6, BOXES, LOGITS)
    return Translation(_dialect(model_spec("ssd300_mobilenet_v1", ()), columns), renamer(prefixes))


def _mobilenet_v1_lite(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.2.weight", f"{BOXES}0.2.weight", origin)
    extras = tuple(_linear_extra(mid, out) for mid, out in ((256, 512), (128, 256), (128, 256), (128, 256)))
    spec = _lite_spec("pytorch_ssd_mobilenet_v1_lite", BackboneConfig(name="mobilenet_v1"), extras)
    prefixes = _mobilenet_v1_prefixes() | _linear_extras(4)
    prefixes |= separable_heads(6, f"{BOXES}*.", f"{LOGITS}*.", (0, None, 2))
    return Translation(_dialect(spec, columns), renamer(prefixes))


def _squeezenet_lite(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.2.weight", f"{BOXES}0.2.weight", origin)
    rows = ((256, 512, 2), (256, 512, 1), (128, 256, 1), (128, 256, 1), (128, 256, 1))
    first, *others = (_linear_extra(mid, out, padding) for mid, out, padding in rows)
    # The last module of the base network feeds the extra blocks; the head reads the one before it.
    extras = (first.model_copy(update={"fire": FIRES[-1]}), *others)
    spec = _lite_spec("pytorch_ssd_squeezenet_lite", BackboneConfig(name="squeezenet1_1"), extras)
    # Maps of 17 and 10 cells, where the spacing of the recipe belongs to 19 and 10.
    prefixes = {"backbone.conv1": "base_net.0", "extras.0.fire": "base_net.12"} | _linear_extras(5)
    places = [index for index, fire in enumerate(FIRES, start=3) if fire is not None]
    prefixes |= {f"backbone.fire{number}": f"base_net.{place}" for number, place in enumerate(places[:-1], start=2)}
    prefixes |= separable_heads(6, f"{BOXES}*.", f"{LOGITS}*.", (0, None, 2))
    return Translation(_dialect(spec, columns), renamer(prefixes))


def _mobilenet_v2_lite(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.3.weight", f"{BOXES}0.3.weight", origin)
    extras = tuple(
        ExtraBlock(kind="inverted_residual", mid_channels=mid, out_channels=out, batch_norm=True, activation="relu6")
        for mid, out in ((256, 512), (128, 256), (128, 256), (64, 64))
    )
    backbone = BackboneConfig(name="mobilenet_v2", taps=("block13_expand", "last"))
    spec = _lite_spec("pytorch_ssd_mobilenet_v2_lite", backbone, extras, norm=True)
    prefixes = mobilenet_v2_prefixes("base_net.", flat=True)
    for index in range(4):
        prefixes |= block_prefixes(f"extras.{index}", f"extras.{index}.conv.", FLAT, f"extras.{index}.reduce")
    prefixes |= separable_heads(6, f"{BOXES}*.", f"{LOGITS}*.", (0, 1, 3))
    return Translation(_dialect(spec, columns), renamer(prefixes))


def _lite_spec(name: str, backbone: BackboneConfig, extras: tuple[ExtraBlock, ...], *, norm: bool = False) -> ModelSpec:
    """The dialect of ``ssd300_mobilenet_v1`` with separable heads."""
    base = model_spec("ssd300_mobilenet_v1", ())
    anchors: AnchorConfig = base.anchors
    head = HeadConfig(
        kind="separable",
        logits=1,
        boxes_per_cell=anchors.boxes_per_cell,
        depthwise_bias=True,
        depthwise_norm=norm,
        activation="relu6" if norm else "relu",
        last_plain=True,
    )
    return changed(base, name=name, network={"backbone": backbone, "extras": extras, "head": head})


def _linear_extra(mid: int, out: int, padding: int = 1) -> ExtraBlock:
    """1x1 and ReLU, depthwise 3x3 and ReLU, 1x1; biases, no BatchNorm."""
    return ExtraBlock(kind="inverted_residual", mid_channels=mid, out_channels=out, padding=padding)


def _linear_extras(blocks: int) -> dict[str, str]:
    places = (("reduce", "0"), ("depthwise", "2.0"), ("project", "2.2"))
    return {f"extras.{k}.{part}.conv": f"extras.{k}.{place}" for k in range(blocks) for part, place in places}


def _mobilenet_v1_prefixes() -> dict[str, str]:
    prefixes = conv_norm("backbone.conv_1", "base_net.0")
    for unit in range(1, 14):
        prefixes |= conv_norm(f"backbone.conv_{unit + 1}_dw", f"base_net.{unit}")
        prefixes |= conv_norm(f"backbone.conv_{unit + 1}", f"base_net.{unit}.3", f"base_net.{unit}.4")
    return prefixes
