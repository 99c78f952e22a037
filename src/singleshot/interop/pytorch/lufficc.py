"""lufficc/SSD: VGG16 at 300 and 512, MobileNetV2 and V3 at 320, EfficientNet-B3 at 300."""

from __future__ import annotations

from singleshot.core.class_names import COCO_NAMES
from singleshot.core.settings import AnchorConfig, CoderConfig, PostprocessConfig, PreprocessConfig
from singleshot.interop.pytorch.mobilenet_names import (
    NESTED,
    block_prefixes,
    conv_norm,
    mobilenet_v2_prefixes,
    separable_heads,
)
from singleshot.interop.pytorch.vgg_names import flat_extras, head_prefixes, paired_extras, vgg_prefixes
from singleshot.interop.translate import (
    Shapes,
    Translation,
    changed,
    columns_of,
    renamer,
    translate_by_mark,
    with_classes,
)
from singleshot.models.backbones.mobilenet_v3 import BLOCKS, TAIL
from singleshot.models.catalogue import model_spec
from singleshot.models.config import BackboneConfig, ExtraBlock, HeadConfig, L2NormConfig, ModelSpec, NetworkConfig
from singleshot.models.zoo.ssd import EXTRAS_300
from singleshot.multibox.shapes import (
    SSD_RATIOS_512,
    SSD_STEPS_512,
    PixelSizes,
    percent_sizes,
    pixel_levels,
    ssd_anchors,
)

BOXES, LOGITS = "box_head.predictor.reg_headers.", "box_head.predictor.cls_headers."
LIGHT_EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 64))
LIGHT_EXTRAS_V3 = ((192, 512), (128, 256), (128, 256), (64, 64))
GATES_V3 = (48, 32, 32, 16)
MOBILE_STEPS = (16.0, 32.0, 64.0, 107.0, 160.0, 320.0)
POSTPROCESS = PostprocessConfig(pre_nms_top_k=None, max_detections=100, clip="none")


def translate(shapes: Shapes, origin: str) -> Translation:
    """The backbone's names tell which of the five it is."""
    builders = {
        "backbone.vgg.0.weight": _vgg,
        "backbone.features.1.conv.0.0.weight": _mobilenet_v2,
        "backbone.features.1.conv.4.weight": _mobilenet_v3,
        "backbone._conv_stem.weight": _efficientnet,
    }
    return translate_by_mark(builders, shapes, origin, "lufficc/SSD with a backbone")


def _vgg(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.weight", f"{BOXES}0.weight", origin)
    is_512, is_coco = f"{LOGITS}6.weight" in shapes, columns == len(COCO_NAMES) + 1
    spec = changed(
        model_spec(f"ssd{512 if is_512 else 300}_vgg16{'_coco' if is_coco else ''}", ()),
        network={"l2_norms": (L2NormConfig(eps="outside"),)},
        anchors=_vgg_anchors(is_512, is_coco),
        coder={"max_log_ratio": None},
        postprocess=POSTPROCESS,
    )
    levels = 7 if is_512 else 6
    prefixes = vgg_prefixes("backbone.vgg.") | flat_extras(levels - 2, "backbone.extras.")
    prefixes |= head_prefixes(levels, BOXES, LOGITS) | {"norms.0.scale": "backbone.l2_norm.weight"}
    return Translation(with_classes(spec, columns), renamer(prefixes))


def _vgg_anchors(is_512: bool, is_coco: bool) -> AnchorConfig:
    if not is_512:
        return ssd_anchors("coco300" if is_coco else "voc300", clip="centre")
    if is_coco:
        return ssd_anchors("coco512", clip="centre")
    sizes = percent_sizes(512, 7, 15, 90, 7)
    # Its list ends with 537.65 where the rule says 537.6.
    levels = pixel_levels(
        PixelSizes(sizes.min_px, (*sizes.max_px[:-1], 537.65)), SSD_RATIOS_512, (512, 512), SSD_STEPS_512
    )
    return AnchorConfig(levels=levels, reference_hw=(512, 512), clip="centre")


def _light_spec(name: str, backbone: str, taps: tuple[str, ...], extras: tuple[ExtraBlock, ...]) -> ModelSpec:
    """SSDLite at 320: separable heads with a biased depthwise convolution, the last one plain."""
    sizes = PixelSizes((60.0, 105.0, 150.0, 195.0, 240.0, 285.0), (105.0, 150.0, 195.0, 240.0, 285.0, 330.0))
    anchors = AnchorConfig(
        levels=pixel_levels(sizes, [(2.0, 3.0)] * 6, (320, 320), MOBILE_STEPS), reference_hw=(320, 320), clip="centre"
    )
    head = HeadConfig(
        kind="separable", logits=1, boxes_per_cell=anchors.boxes_per_cell, depthwise_bias=True, last_plain=True
    )
    return ModelSpec(
        name=name,
        network=NetworkConfig(backbone=BackboneConfig(name=backbone, taps=taps), extras=extras, head=head),
        anchors=anchors,
        coder=CoderConfig(max_log_ratio=None),
        preprocess=PreprocessConfig(size_hw=(320, 320)),
        postprocess=POSTPROCESS,
        class_names=(),
    )


def _mobilenet_v2(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.conv.3.weight", f"{BOXES}0.conv.3.weight", origin)
    extras = tuple(
        ExtraBlock(kind="inverted_residual", mid_channels=mid, out_channels=out, batch_norm=True, activation="relu6")
        for mid, out in LIGHT_EXTRAS
    )
    spec = _light_spec("lufficc_mobilenet_v2_ssd320", "mobilenet_v2", ("block12", "last"), extras)
    prefixes = mobilenet_v2_prefixes("backbone.features.", flat=False)
    for index in range(4):
        ours = f"extras.{index}"
        prefixes |= block_prefixes(ours, f"backbone.extras.{index}.conv.", NESTED, f"{ours}.reduce")
    prefixes |= separable_heads(6, f"{BOXES}*.conv.", f"{LOGITS}*.conv.", (0, 1, 3))
    return Translation(with_classes(spec, columns), renamer(prefixes))


def _mobilenet_v3(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.conv.3.weight", f"{BOXES}0.conv.3.weight", origin)
    extras = tuple(
        ExtraBlock(
            kind="inverted_residual", mid_channels=mid, out_channels=out, batch_norm=True, activation="hardswish",
            squeeze=gate,
        )
        for (mid, out), gate in zip(LIGHT_EXTRAS_V3, GATES_V3, strict=True)
    )  # fmt: skip
    backbone = "mobilenet_v3_large_squeeze_first"
    spec = _light_spec("lufficc_mobilenet_v3_ssd320", backbone, ("block12", "last"), extras)
    prefixes = conv_norm("backbone.stem", "backbone.features.0")
    prefixes |= conv_norm("backbone.last", "backbone.features.16")
    channels = 16
    for index, block in enumerate(BLOCKS + TAIL, start=1):
        has_shortcut = block.stride == 1 and channels == block.out
        expand = f"backbone.block{index}{'.expand' if has_shortcut else '_expand'}"
        has_expansion = block.mid != channels
        prefixes |= _gated_block(f"backbone.block{index}", f"backbone.features.{index}.conv.", expand, has_expansion)
        channels = block.out
    for index in range(4):
        prefixes |= _gated_block(f"extras.{index}", f"backbone.extras.{index}.conv.", f"extras.{index}.reduce", True)
    prefixes |= separable_heads(6, f"{BOXES}*.conv.", f"{LOGITS}*.conv.", (0, 1, 3))
    return Translation(with_classes(spec, columns), renamer(prefixes))


def _gated_block(ours: str, theirs: str, expand: str, has_expansion: bool) -> dict[str, str]:
    """Convolution, BatchNorm, activation; depthwise, BatchNorm, gate, activation; projection, BatchNorm."""
    if not has_expansion:
        return block_prefixes(ours, theirs, {"depthwise": ("0", "1"), "project": ("4", "5")}, expand)
    places = {"expand": ("0", "1"), "depthwise": ("3", "4"), "project": ("7", "8")}
    gate = {f"{ours}.squeeze.fc1": f"{theirs}5.fc.0", f"{ours}.squeeze.fc2": f"{theirs}5.fc.2"}
    return block_prefixes(ours, theirs, places, expand) | gate


def _efficientnet(shapes: Shapes, origin: str) -> Translation:
    columns = columns_of(shapes, f"{LOGITS}0.weight", f"{BOXES}0.weight", origin)
    anchors = ssd_anchors("coco300" if columns == len(COCO_NAMES) + 1 else "voc300", clip="centre")
    extras = (ExtraBlock(mid_channels=128, out_channels=256), *EXTRAS_300[2:])
    network = NetworkConfig(
        backbone=BackboneConfig(name="efficientnet_b3"),
        extras=extras,
        head=HeadConfig(logits=1, boxes_per_cell=anchors.boxes_per_cell),
    )
    spec = ModelSpec(
        name="lufficc_efficientnet_b3_ssd300",
        network=network,
        anchors=anchors,
        coder=CoderConfig(max_log_ratio=None),
        preprocess=PreprocessConfig(size_hw=(300, 300)),
        postprocess=POSTPROCESS,
        class_names=(),
    )
    prefixes = conv_norm("backbone.stem", "backbone._conv_stem", "backbone._bn0")
    parts = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    for index in range(26):
        ours, theirs = f"backbone.block{index}", f"backbone._blocks.{index}."
        prefixes |= block_prefixes(ours, theirs, parts, f"{ours}.expand")
        prefixes |= {f"{ours}.squeeze.fc1": f"{theirs}_se_reduce", f"{ours}.squeeze.fc2": f"{theirs}_se_expand"}
    prefixes |= paired_extras(3, "backbone.extras.") | head_prefixes(6, BOXES, LOGITS)
    return Translation(with_classes(spec, columns), renamer(prefixes))
