"""What the parameters and the symbol of mxnet-ssd or mxnet-dssd say about how the network is put together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from singleshot.core.settings import SizeHW
from singleshot.errors import ConfigError, WeightsError
from singleshot.interop.mxnet.names import Automatic, Repository, backbone_sums, head_inputs, tap_name
from singleshot.interop.mxnet.size import EPOCH, InputSize, input_size
from singleshot.interop.mxnet.symbol import Symbol
from singleshot.interop.translate import Shapes
from singleshot.models.backbone import build_backbone
from singleshot.models.config import BackboneConfig
from singleshot.models.zoo.assembled import AssembledConfig
from singleshot.models.zoo.mxnet import DSSD_VARIANTS

DEFAULT_SIZE_HW = (300, 300)
HEAD = "_loc_pred_conv_weight"
SCALE = "_scale"
MODULE = "conv1_1pre_weight"
TAPS = {"vgg16_reduced": ("relu4_3", "relu7"), "resnet101_mxnet": ("stage3_unit23", "stage4_unit3")}
"""Of mxnet-dssd, whose heads are not named after them."""
MARKS = (
    ("fc6_weight", "vgg16_reduced"),
    ("stage3_unit36_conv3_weight", "resnet152_mxnet"),
    ("stage3_unit23_conv3_weight", "resnet101_mxnet"),
    ("stage3_unit6_conv3_weight", "resnet50_mxnet"),
    ("stage3_unit6_conv2_weight", "resnet34_mxnet"),
    ("stage3_unit2_conv2_weight", "resnet18_mxnet"),
    ("DBstage3_unit24_conv1_weight", "densenet121"),
    ("DBstage3_unit18_conv1_weight", "densenet_tiny"),
    ("conv_14_conv2d_weight", "mobilenet_v1_mxnet"),
    ("mixed_10_conv_conv2d_weight", "inception_v3_mxnet"),
)
"""A parameter that only this backbone has, the first that is there decides."""

# A name of TDM's goes on with the level's digit: _plus335_thin_weight is level 5 of _plus33.
_SUM = re.compile(r"(_plus|elemwise_add|broadcast_add)(\d+?)(?=\d_thin_|\D)")
_PRODUCT = re.compile(r"broadcast_mul\d+(?=\D)")
_RESIDUAL = re.compile(r"(\d+)_conv2_weight")
_DECONVOLUTION = re.compile(r"de_(\d+)_weight$")
_LEGACY = re.compile(r"(conv|relu)(?:([67])|(8|9|10|11|12)_([12]))(?=_|$)")


def backbone_of(shapes: Shapes, origin: Path) -> str:
    """Our name of the backbone.

    Raises:
        WeightsError: it is none that we have.
    """
    for mark, backbone in MARKS:
        if mark in shapes:
            return backbone
    raise WeightsError(f"{origin}: its backbone is none of {', '.join(sorted({name for _, name in MARKS}))}")


def repository_of(shapes: Shapes) -> Repository:
    """Which system's names these are; they are the same where neither has anything of its own."""
    is_normalised = any(_PRODUCT.match(name) and name.endswith(HEAD) for name in shapes)
    own = is_normalised or _neck(shapes) != "none" or _has_residual_blocks(shapes) or _has_modules(shapes)
    return "dssd" if own else "ssd"


def variants_of(shapes: Shapes) -> tuple[str, ...]:
    """mxnet-dssd's switches as keys of its variants; the last one is the neck's."""
    necks = {variant["neck"]: name for name, variant in DSSD_VARIANTS.items() if variant.keys() == {"neck"}}
    parts = {"module": _has_modules(shapes), "residual": _has_residual_blocks(shapes)}
    return (*(name for name, is_there in parts.items() if is_there), necks[_neck(shapes)])


def is_legacy(names: Iterable[str]) -> bool:
    """Whether these are the names of mxnet-ssd's VGG networks that were written by hand, as in Caffe."""
    return {"conv6_weight", "conv8_2_weight"} <= set(names)


def modern(name: str) -> str:
    """The name that mxnet-ssd's assembled VGG has for one of the networks that were written by hand."""

    def replaced(match: re.Match[str]) -> str:
        kind, fully, block, part = match.groups()
        if fully:
            return f"fc{fully}" if kind == "conv" else match[0]
        return f"multi_feat_{int(block) - 6}_conv_{'1x1' if part == '1' else '3x3'}_{kind}"

    return _LEGACY.sub(replaced, name, count=1) if _LEGACY.match(name) else name


def automatic_names(shapes: Shapes, backbone: str, heads: tuple[str, ...] = ()) -> tuple[Automatic, ...]:
    """What this file calls unnamed operations, in the orders that they may have been built in, likelier ones first.

    Args:
        shapes: of all parameters, by name.
        backbone: its own sums come first and are left out.
        heads: what the predictors are named after, finest first, where a symbol tells.
    """
    product = next((match[0] for name in shapes if (match := _PRODUCT.match(name))), Automatic().normalised)
    # Behind TDM the scale may be named after the backbone's layer or after TDM's result.
    scaled = next((name.removesuffix(SCALE) for name in shapes if name.endswith(SCALE)), "")
    found = {(match[1], int(match[2])) for name in shapes if (match := _SUM.match(name))}
    own = sorted(one for one in found if one[0] != "_plus" or one[1] >= backbone_sums(backbone))
    # '_plus' sorts first, as it should: what names its sums otherwise comes behind the backbone and the blocks.
    names = [f"{kind}{number}" for kind, number in own]
    blocks = sum(_RESIDUAL.fullmatch(name) is not None for name in shapes)
    extras, modules = names[:blocks], names[blocks:]
    if set(modules) <= set(heads):
        modules.sort(key=heads.index)
        return (Automatic(product, scaled, (*extras, *modules)),)
    return tuple(Automatic(product, scaled, (*extras, *order)) for order in (modules, modules[::-1]))


def with_modules(
    config: AssembledConfig, shapes: Shapes, repository: Repository, automatic: Automatic
) -> AssembledConfig:
    """The configuration with prediction modules on the sources that the file has them for."""
    if not _has_modules(shapes):
        return config
    maps = head_inputs(config.to_spec(("object",)).network, repository, automatic)
    switches = tuple(1 if f"{name}{MODULE}" in shapes else -1 for name in maps)
    return config.model_copy(update={"prediction_module": "mxnet", "prediction_layers": switches})


def settings(
    symbol: Symbol, shapes: Shapes, repository: Repository, origin: Path, given: SizeHW | None = None
) -> tuple[dict[str, Any], InputSize]:
    """The entries of an assembled detector that a symbol and its parameters mean, prediction modules apart.

    Args:
        symbol: the description.
        shapes: of all parameters, by name.
        repository: whose names these are.
        origin: the file with the parameters.
        given: the input size, if the user says it.

    Raises:
        ConfigError: they do not belong together, or a source is no layer of the backbone.
        WeightsError: the backbone is none that we have.
    """
    network, levels, blocks = backbone_of(shapes, origin), len(symbol.sizes), symbol.blocks
    first = blocks[0].number if blocks else levels
    if first + len(blocks) != levels or len(symbol.heads) != levels:
        raise ConfigError(
            f"{levels} MultiBoxPriors, {len(symbol.heads)} predictors, {len(blocks)} blocks after {first}"
        )
    theirs, passed, appended = symbol.heads[:first], [-1] * first, [""] * len(blocks)
    is_residual = _has_residual_blocks(shapes)
    if repository == "dssd":
        taps: tuple[str, ...] = TAPS[network]
        scaled = [any(name.endswith(SCALE) for name in shapes), *[False] * (levels - 1)]
    else:
        taps = tuple(_taps(network, theirs))
        scaled = [f"{name}{SCALE}" in shapes for name in (*theirs, *appended)]
    reduced = [] if is_residual else [shapes[f"multi_feat_{one.number}_conv_1x1_conv_weight"][0] for one in blocks]
    # The strided convolution of a residual block has a quarter of its channels.
    channels = [shapes[f"{one.number}_conv3_weight"][0] if is_residual else one.channels for one in blocks]
    steps = [step[0] for step in symbol.steps]
    size = input_size(
        EPOCH.sub("", origin.stem), DEFAULT_SIZE_HW, given, symbol.input_hw, steps, _first_stride(network, taps)
    )
    entries = {
        "network": network,
        "input_size_hw": size.size_hw,
        "from_layers": (*taps, *appended),
        "num_filters": (*passed, *channels),
        "strides": (*passed, *(block.stride for block in blocks)),
        "pads": (*passed, *(block.pad for block in blocks)),
        "kernels": (*[3] * first, *(block.kernel for block in blocks)),
        "min_filter": min(reduced, default=1),
        "residual_extras": is_residual,
        "sizes": symbol.sizes,
        "ratios": symbol.ratios,
        "normalizations": tuple(20.0 if is_scaled else -1.0 for is_scaled in scaled),
        "steps": tuple(steps) if min(steps) > 0 else (),
        "clip": symbol.clip,
        "interm_layer": shapes.get(f"{symbol.heads[0]}_inter_conv_weight", (0,))[0],
        **_top_down(shapes, levels),
        **_detection(symbol.detection),
    }
    return entries, size


def _has_modules(shapes: Shapes) -> bool:
    return any(name.endswith(MODULE) for name in shapes)


def _has_residual_blocks(shapes: Shapes) -> bool:
    return any(_RESIDUAL.fullmatch(name) for name in shapes)


def _neck(shapes: Shapes) -> str:
    """Deconvolution levels and top-down levels, by the names that only they have."""
    has_dssd = any(_DECONVOLUTION.search(name) for name in shapes)
    has_tdm = any(name.endswith("_thin_weight") for name in shapes)
    return {(True, True): "tdm_dssd", (True, False): "dssd", (False, True): "tdm"}.get((has_dssd, has_tdm), "none")


def _top_down(shapes: Shapes, levels: int) -> dict[str, Any]:
    entries: dict[str, Any] = {"neck": _neck(shapes), "neck_dialect": "mxnet"}
    if entries["neck"] in ("dssd", "tdm_dssd"):
        numbers = {int(match[1]) for name in shapes if (match := _DECONVOLUTION.search(name))}
        entries["topdown_layers"] = tuple(1 if levels - 1 - level in numbers else -1 for level in range(levels))
    return entries


def _taps(network: str, theirs: tuple[str, ...]) -> Iterator[str]:
    """Our names of tapped layers."""
    with torch.device("meta"):
        backbone = build_backbone(BackboneConfig(name=network))
    ours = {tap_name(network, layer): layer for layer, _ in backbone.named_children()}
    for name in theirs:
        if name not in ours:
            raise ConfigError(f"its source '{name}' is no layer of {network}")
        yield ours[name]


def _first_stride(network: str, taps: tuple[str, ...]) -> int:
    """Pixels of the input from cell to cell of the finest source."""
    with torch.device("meta"):
        return build_backbone(BackboneConfig(name=network, taps=taps[:1])).strides[0]


def _detection(attributes: Mapping[str, str]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for theirs, ours in (("nms_threshold", "nms_thresh"), ("threshold", "score_threshold"), ("nms_topk", "nms_topk")):
        value = float(attributes.get(theirs, "-1"))
        if value > 0:
            entries[ours] = int(value) if theirs == "nms_topk" else value
    if attributes:
        entries.setdefault("nms_topk", -1)
    entries["force_suppress"] = attributes.get("force_suppress", "False") in ("True", "1")
    return entries
