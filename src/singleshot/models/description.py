"""A detector in a YAML file: read, completed and checked.

A description has the parts of a `ModelSpec`; what can be derived is left out, what is usual is short, and the class
names come from the data::

    backbone: resnet18                                    # or {name: resnet18, taps: [layer2, layer3, layer4]}
    size_hw: [256, 384]
    extras: [256, {kind: separable, out_channels: 128}]   # each block is a source more
    neck: {kind: dssd, channels: 256}
    boxes: {scales: [0.1, 0.9], ratios: [2, 3]}           # or anchors, box by box

A whole `ModelSpec` is a description, too, and so are mxnet-ssd's lists (`AssembledConfig`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from singleshot.core.setting_errors import explain_settings, near_name
from singleshot.core.settings import AnchorConfig, Frozen, PreprocessConfig
from singleshot.core.yaml_files import read_mapping
from singleshot.errors import ConfigError
from singleshot.models.box_rule import BoxRule
from singleshot.models.config import BackboneConfig, ExtraBlock, ModelSpec, NetworkConfig
from singleshot.models.zoo.assembled import parse_assembled
from singleshot.models.zoo.common import upsampling

Description = Mapping[str, Any]
"""Parts of a detector by name, as YAML gives them."""

PARTS = tuple(NetworkConfig.model_fields)
"""Parts of the network; a whole `ModelSpec` has them under ``network``."""

KNOWN = ("name", "size_hw", *PARTS, "boxes", *(name for name in ModelSpec.model_fields if name != "name"))
AS_PART = re.compile(rf"\bnetwork\.(?=({'|'.join(PARTS)})\b)")
DEFAULT_SIZE = (300, 300)

T = TypeVar("T", bound=Frozen)


def is_description(name: str) -> bool:
    """Whether a model's name is that of a file that describes one."""
    return Path(name).suffix.lower() in (".yaml", ".yml")


def read_description(path: str | Path) -> dict[str, Any]:
    """What a YAML file says about a detector; its name is that of the file unless it says another.

    Raises:
        ConfigError: the file is missing, is no YAML mapping, or describes a detector that cannot be built.
    """
    description = read_mapping(path, "parts of a detector", "backbone: resnet50")
    described = {"name": Path(path).stem} | description
    describe(described, ("object",), origin=str(path))
    return described


def describe(
    description: Description,
    class_names: Sequence[str],
    size_hw: tuple[int, int] | None = None,
    origin: str = "the model's description",
) -> ModelSpec:
    """The detector of a description, complete, for these classes. Builds it without numbers to see whether it can be.

    Args:
        description: its parts.
        class_names: public classes 0..C-1.
        size_hw: network input; ``None`` takes the description's.
        origin: where the description comes from, for messages.

    Raises:
        ConfigError: names ``origin`` and the dotted key of what is unknown, of a wrong type, or impossible.
    """
    if isinstance(description.get("network"), str):
        lists = {key: value for key, value in description.items() if key != "name"}
        spec = parse_assembled(lists, origin).to_spec(class_names, size_hw, str(description.get("name", "assembled")))
    else:
        spec = _complete(description, class_names, size_hw, origin)
    try:
        _try_building(spec)
    except ConfigError as error:
        is_whole = isinstance(description.get("network"), Mapping)
        raise ConfigError(f"{origin}: {error if is_whole else AS_PART.sub('', str(error))}") from error
    return spec


def _complete(
    description: Description, class_names: Sequence[str], size_hw: tuple[int, int] | None, origin: str
) -> ModelSpec:
    """The record; lists are counted, but nothing is built unless the backbone must say how many taps it has."""
    given = dict(description)
    parts, is_flat = _network_parts(given, origin)
    preprocess = _preprocess(given, size_hw, origin)
    head, own_boxes = parts.get("head", {}), given.pop("boxes", None)
    if not isinstance(head, Mapping):
        raise ConfigError(f"{origin}: head: must be a mapping of settings such as {{kind: separable}}")
    # The number of boxes is not known before the levels are, and these not before the parts.
    draft = {
        **parts,
        "head": {**head, "logits": len(class_names) + 1, "boxes_per_cell": head.get("boxes_per_cell", ())},
    }
    network = _parse(NetworkConfig, draft, origin, "" if is_flat else "network.")
    if "anchors" in given:
        if own_boxes is not None:
            raise ConfigError(f"{origin}: boxes and anchors both say what default boxes there are; keep one of them")
        anchors = _parse(AnchorConfig, given.pop("anchors"), origin, "anchors.")
    else:
        anchors = _by_rule(own_boxes or {}, _level_count(network, origin), preprocess.size_hw, origin)
    if "boxes_per_cell" not in head:
        counted = network.head.model_copy(update={"boxes_per_cell": anchors.boxes_per_cell})
        network = network.model_copy(update={"head": counted})
    if is_flat and network.neck.kind in ("dssd", "tdm", "tdm_dssd") and network.neck.dialect == "paper":
        network = _with_upsampling(network, anchors)
    for key in ("class_names", "class_ids", "provenance"):  # the data's and the training's to say
        given.pop(key, None)
    if isinstance(given.get("postprocess"), Mapping):
        given["postprocess"] = {**given["postprocess"], "class_columns": None}
    made = {"network": network, "anchors": anchors, "preprocess": preprocess, "class_names": tuple(class_names)}
    return _parse(ModelSpec, {"name": "described", **given, **made}, origin, "")


def _network_parts(given: dict[str, Any], origin: str) -> tuple[dict[str, Any], bool]:
    """Take the parts of the network out of a description, short forms written out; and whether they stood at the top.

    Raises:
        ConfigError: a key is unknown, or parts stand in both places.
    """
    unknown = [key for key in given if key not in KNOWN]
    if unknown:
        raise ConfigError(f"{origin}: {unknown[0]}: no such setting; {near_name(unknown[0], KNOWN)}")
    flat = {key: given.pop(key) for key in PARTS if key in given}
    whole = given.pop("network", {})
    if not isinstance(whole, Mapping):
        raise ConfigError(f"{origin}: network: must be a mapping of {', '.join(PARTS)}")
    if flat and whole:
        raise ConfigError(f"{origin}: {next(iter(flat))}: stands beside network, which holds such parts; move it there")
    parts = dict(whole or flat)
    shorts: dict[str, Callable[[Any], Any]] = {
        "backbone": lambda value: {"name": value} if isinstance(value, str) else value,
        "neck": lambda value: {"kind": value} if isinstance(value, str) else value,
        "extras": lambda value: [_extra(block) for block in value] if isinstance(value, list) else value,
        "l2_norms": lambda value: [_norm(norm) for norm in value] if isinstance(value, list) else value,
    }
    written_out = {key: shorts[key](value) if key in shorts else value for key, value in parts.items()}
    return written_out, bool(flat) or not whole


def _extra(block: Any) -> Any:
    """``256`` is a block of 256 channels; its 1x1 convolution has half as many unless it says otherwise."""
    if isinstance(block, int) and not isinstance(block, bool):
        block = {"out_channels": block}
    if isinstance(block, Mapping) and isinstance(block.get("out_channels"), int):
        return {"mid_channels": max(block["out_channels"] // 2, 1), **block}
    return block


def _norm(norm: Any) -> Any:
    """``20`` is a scale that begins at 20."""
    return {"init": norm} if isinstance(norm, (int, float)) and not isinstance(norm, bool) else norm


def _preprocess(given: dict[str, Any], size_hw: tuple[int, int] | None, origin: str) -> PreprocessConfig:
    """What happens to an image; the size may stand at the top, and an asked one goes before both."""
    short, whole = given.pop("size_hw", None), given.pop("preprocess", {})
    if not isinstance(whole, Mapping):
        raise ConfigError(f"{origin}: preprocess: must be a mapping of settings such as {{size_hw: [300, 300]}}")
    size = whole.get("size_hw", DEFAULT_SIZE) if short is None else short
    size = (size, size) if isinstance(size, int) else size

    def place(key: str) -> str:
        return key if key.startswith("size_hw") and short is not None else f"preprocess.{key}"

    preprocess = _parse(PreprocessConfig, {**whole, "size_hw": size}, origin, place)
    return preprocess.model_copy(update={"size_hw": size_hw}) if size_hw else preprocess


def _level_count(network: NetworkConfig, origin: str) -> int:
    return (len(network.backbone.taps) or _default_taps(network.backbone, origin)) + len(network.extras)


def _default_taps(backbone: BackboneConfig, origin: str) -> int:
    import torch

    from singleshot.models.backbone import build_backbone

    try:
        with torch.device("meta"):
            return len(build_backbone(backbone).channels)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {AS_PART.sub('', str(error))}") from error


def _by_rule(rule: Any, levels: int, size_hw: tuple[int, int], origin: str) -> AnchorConfig:
    boxes = _parse(BoxRule, rule, origin, "boxes.")
    try:
        return AnchorConfig(levels=boxes.levels(levels, size_hw), reference_hw=size_hw if boxes.steps else None)
    except ValueError as error:
        raise ConfigError(f"{origin}: boxes.{error}") from error


def _with_upsampling(network: NetworkConfig, anchors: AnchorConfig) -> NetworkConfig:
    """Where the neck does not say how it enlarges maps, it undoes the steps between the sources."""
    if network.neck.upsampling:
        return network
    extras: tuple[ExtraBlock, ...] = network.extras
    steps = upsampling(len(anchors.levels) - len(extras), extras)
    return network.model_copy(update={"neck": network.neck.model_copy(update={"upsampling": steps})})


def _parse(record: type[T], values: Any, origin: str, place: str | Callable[[str], str]) -> T:
    """A record from plain values.

    Args:
        record: what it shall be.
        values: its settings.
        origin: where they come from.
        place: dotted key of the record, ending in a dot; or what gives each key its name.
    """
    rename = place if callable(place) else lambda key: f"{place}{key}".rstrip(".")
    try:
        return record.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain_settings(error, origin, record, rename)) from None
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error


def _try_building(spec: ModelSpec) -> None:
    """Put the network together without numbers: does every name mean something, do lists and sizes fit?

    Raises:
        ConfigError: they do not.
    """
    import torch

    from singleshot.models.build import assemble_network
    from singleshot.models.network import trace_maps

    with torch.device("meta"):
        network = assemble_network(spec.network)
    trace_maps(network.to_empty(device="cpu"), spec.preprocess.size_hw)
