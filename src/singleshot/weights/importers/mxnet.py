"""mxnet-ssd and mxnet-dssd: ``<prefix>-0000.params``, with or without ``<prefix>-symbol.json``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singleshot.errors import ConfigError, WeightsError
from singleshot.models.assembled import AssembledConfig, parse_assembled
from singleshot.models.catalogue import model_names
from singleshot.models.config import BackboneConfig, ModelSpec
from singleshot.models.presets_mxnet import assembled_config
from singleshot.weights.containers.mxnet_params import is_params, read_params
from singleshot.weights.importers.mxnet_names import NORMALISED, Repository, mxnet_names, tap_name
from singleshot.weights.importers.mxnet_symbol import Symbol, read_symbol
from singleshot.weights.importers.report import ImportReport
from singleshot.weights.importers.translate import Translation, columns_of, convert, with_classes

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTION = "MXNet .params of mxnet-ssd or mxnet-dssd (and -symbol.json; any from_layers)"

SYMBOL = "-symbol.json"
EPOCH = re.compile(r"-\d{4}$")
HEAD = "_loc_pred_conv_weight"
TAPS = {"vgg16_reduced": ("relu4_3", "relu7"), "resnet101_mxnet": ("stage3_unit23", "stage4_unit3")}
"""Of mxnet-dssd, whose heads are not named after them."""
MARKS = (
    ("fc6_weight", "vgg16_reduced"),
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


def recognises(path: Path) -> bool:
    """Whether this is a ``.params`` file, its symbol, or a folder with one ``.params``."""
    if path.is_dir():
        return any(path.glob("*.params"))
    return path.name.endswith(SYMBOL) or (path.is_file() and is_params(path))


def read(path: str | Path) -> tuple[ModelSpec, dict[str, Tensor], ImportReport]:
    """Convert a detector of mxnet-ssd or mxnet-dssd.

    With a symbol file the lists (from_layers, sizes, ratios, ...) are read from it; without one the presets are tried.

    Args:
        path: the ``.params`` file, the symbol beside it, or their folder.

    Raises:
        WeightsError: it is damaged, or no network of those systems.
    """
    import torch

    params, symbol = find_files(Path(path))
    arrays = {name.partition(":")[2] or name: array for name, array in read_params(params).items()}
    state = {name: torch.from_numpy(array.astype("float32")) for name, array in arrays.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    repository: Repository = "dssd" if f"{NORMALISED}{HEAD}" in shapes or _neck(shapes) != "none" else "ssd"
    try:
        if symbol is not None:
            described = read_symbol(symbol)
            config = parse_assembled(_settings(described, shapes, repository, params), str(symbol))
            first = described.heads[0]
            columns = columns_of(shapes, f"{first}_cls_pred_conv_weight", f"{first}{HEAD}", params)
            name = f"mxnet_{repository}_{config.network.removesuffix('_mxnet')}_{config.input_size_hw[0]}"
        else:
            name, config, columns = _preset(shapes, repository, params)
        translation = _translation(name, config, columns, repository)
    except (ConfigError, KeyError, IndexError) as error:
        raise WeightsError(f"{symbol or params}: no network of mxnet-ssd or mxnet-dssd: {error}") from error
    notes = () if symbol else (f"no {SYMBOL} beside it: read as the preset {name}, whose sizes and steps are taken",)
    return convert(translation._replace(notes=notes), state, params, "mxnet")


def find_files(path: Path) -> tuple[Path, Path | None]:
    """The numbers and, where there is one, the description that belongs to them.

    Raises:
        WeightsError: there are no numbers, or there are several epochs to choose from.
    """
    if path.is_dir() or path.name.endswith(SYMBOL):
        folder, prefix = (path, "") if path.is_dir() else (path.parent, path.name.removesuffix(SYMBOL))
        found = sorted(folder.glob(f"{prefix}*.params"))
        if len(found) != 1:
            names = ", ".join(one.name for one in found) or "none"
            raise WeightsError(f"{path}: {len(found)} .params files ({names}); name the one of the epoch you want")
        path = found[0]
    symbol = path.with_name(EPOCH.sub("", path.stem) + SYMBOL)
    return path, symbol if symbol.is_file() else None


def _translation(name: str, config: AssembledConfig, columns: int, repository: Repository) -> Translation:
    import torch

    from singleshot.models.build import build_network

    spec = with_classes(config.to_spec(("object",), name=name), columns)
    with torch.device("meta"):
        own = build_network(spec.network).state_dict()
    names = mxnet_names(spec.network, own, repository)
    return Translation(spec, lambda ours: names.get(ours, ours))


def _backbone(shapes: Mapping[str, Any], origin: Path) -> str:
    for mark, backbone in MARKS:
        if mark in shapes:
            return backbone
    raise WeightsError(f"{origin}: its backbone is none of {', '.join(sorted({name for _, name in MARKS}))}")


def _neck(shapes: Mapping[str, Any]) -> str:
    """Deconvolution levels and top-down levels, by the names that only they have."""
    has_dssd = any(re.search(r"de_\d+_weight$", name) for name in shapes)
    has_tdm = any(name.endswith("_thin_weight") for name in shapes)
    return {(True, True): "tdm_dssd", (True, False): "dssd", (False, True): "tdm"}.get((has_dssd, has_tdm), "none")


def _settings(symbol: Symbol, shapes: Mapping[str, Any], repository: Repository, origin: Path) -> dict[str, Any]:
    """The entries of an assembled detector that a symbol and its parameters mean."""
    network, levels, blocks = _backbone(shapes, origin), len(symbol.sizes), symbol.blocks
    first = blocks[0].number if blocks else levels
    if first + len(blocks) != levels or len(symbol.heads) != levels:
        raise ConfigError(
            f"{levels} MultiBoxPriors, {len(symbol.heads)} predictors, {len(blocks)} blocks after {first}"
        )
    theirs, passed, appended = symbol.heads[:first], [-1] * first, [""] * len(blocks)
    taps = TAPS[network] if repository == "dssd" else tuple(_taps(network, theirs))
    scaled = [f"{name}_scale" in shapes for name in (*_raw(network, theirs, repository), *appended)]
    reduced = [shapes[f"multi_feat_{block.number}_conv_1x1_conv_weight"][0] for block in blocks]
    steps = [step[0] for step in symbol.steps]
    size = _size(origin, steps)
    return {
        "network": network,
        "input_size_hw": (size, size),
        "from_layers": (*taps, *appended),
        "num_filters": (*passed, *(block.channels for block in blocks)),
        "strides": (*passed, *(block.stride for block in blocks)),
        "pads": (*passed, *(block.pad for block in blocks)),
        "kernels": (*[3] * first, *(block.kernel for block in blocks)),
        "min_filter": min(reduced, default=1),
        "sizes": symbol.sizes,
        "ratios": symbol.ratios,
        "normalizations": tuple(20.0 if is_scaled else -1.0 for is_scaled in scaled),
        "steps": tuple(steps) if min(steps) > 0 else (),
        "clip": symbol.clip,
        "interm_layer": shapes.get(f"{symbol.heads[0]}_inter_conv_weight", (0,))[0],
        **_top_down(shapes, levels),
        **_detection(symbol.detection),
    }


def _top_down(shapes: Mapping[str, Any], levels: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"neck": _neck(shapes), "neck_dialect": "mxnet"}
    if settings["neck"] in ("dssd", "tdm_dssd"):
        numbers = {int(match[1]) for name in shapes if (match := re.search(r"de_(\d+)_weight$", name))}
        settings["topdown_layers"] = tuple(1 if levels - 1 - level in numbers else -1 for level in range(levels))
    return settings


def _raw(network: str, heads: tuple[str, ...], repository: Repository) -> tuple[str, ...]:
    """MXNet's names of the tapped maps; scales are named after them."""
    return heads if repository == "ssd" else tuple(tap_name(network, tap) for tap in TAPS[network])


def _taps(network: str, theirs: tuple[str, ...]) -> Iterator[str]:
    """Our names of tapped layers."""
    import torch

    from singleshot.models.registry import build_backbone

    with torch.device("meta"):
        layers = [name for name, _ in build_backbone(BackboneConfig(name=network)).named_children()]
    ours = {tap_name(network, layer): layer for layer in layers}
    for name in theirs:
        if name not in ours:
            raise ConfigError(f"its source '{name}' is no layer of {network}")
        yield ours[name]


def _size(origin: Path, steps: list[float]) -> int:
    """Input size: the first step is 8 pixels where there are steps, else the file's name tells, else 300."""
    if min(steps) > 0:
        return round(8 / steps[0])
    match = re.search(r"(?<!\d)(\d{3})(?!\d)", EPOCH.sub("", origin.stem))
    return int(match[1]) if match else 300


def _detection(attributes: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for theirs, ours in (("nms_threshold", "nms_thresh"), ("threshold", "score_threshold"), ("nms_topk", "nms_topk")):
        value = float(attributes.get(theirs, "-1"))
        if value > 0:
            settings[ours] = int(value) if theirs == "nms_topk" else value
    settings["force_suppress"] = attributes.get("force_suppress", "False") in ("True", "1")
    return settings


def _preset(shapes: Mapping[str, Any], repository: Repository, origin: Path) -> tuple[str, AssembledConfig, int]:
    """The preset whose parameters these are; the file's name decides between input sizes."""
    backbone, levels = _backbone(shapes, origin), sum(name.endswith(HEAD) for name in shapes)
    names = [name for name in model_names() if name.startswith(f"mxnet_{repository}_")]
    fitting = []
    for name in names:
        config = assembled_config(name)
        if (
            config.network == backbone
            and len(config.from_layers) == levels
            and (columns := _fits(name, config, shapes))
        ):
            fitting.append((name, config, columns))
    if not fitting:
        raise WeightsError(f"{origin}: no preset has these parameters; put its {SYMBOL} beside it")
    named = [row for row in fitting if str(row[1].input_size_hw[0]) in origin.name]
    return (named or fitting)[0]


def _fits(name: str, config: AssembledConfig, shapes: Mapping[str, Any]) -> int:
    """Logit columns if the parameters are this preset's, else 0."""
    import torch

    from singleshot.models.build import build_network

    if config.residual_extras or config.prediction_module != "none":
        return 0  # their names are not known, see mxnet_names
    spec = config.to_spec(("object",), name=name)
    with torch.device("meta"):
        own = build_network(spec.network).state_dict()
    names = mxnet_names(spec.network, own, "dssd" if "_dssd_" in name else "ssd")
    for ours, theirs in names.items():
        is_free = ours.startswith("head.logits")
        if theirs not in shapes or (not is_free and _sides(shapes[theirs]) != _sides(own[ours].shape)):
            return 0
    return int(shapes[names["head.logits.0.weight"]][0]) // spec.anchors.boxes_per_cell[0]


def _sides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)
