"""MobileNetV2 blocks as torchvision (nested) and older projects (flat) number their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from singleshot.models.backbones.mobilenet_v2 import STAGES

Places = Mapping[str, tuple[str, str]]
"""Our part of a block -> the places of its convolution and its BatchNorm in theirs."""

NESTED: Places = {"expand": ("0.0", "0.1"), "depthwise": ("1.0", "1.1"), "project": ("2", "3")}
NESTED_FIRST: Places = {"depthwise": ("0.0", "0.1"), "project": ("1", "2")}
FLAT: Places = {"expand": ("0", "1"), "depthwise": ("3", "4"), "project": ("6", "7")}
FLAT_FIRST: Places = {"depthwise": ("0", "1"), "project": ("3", "4")}


def mobilenet_v2_prefixes(theirs: str, *, flat: bool) -> dict[str, str]:
    """Our MobileNetV2's names to theirs, for a list called ``theirs`` (with its dot)."""
    prefixes = conv_norm("backbone.stem", f"{theirs}0")
    prefixes |= conv_norm("backbone.last", f"{theirs}18")
    firsts = _first_blocks()
    for block in range(17):
        places = (FLAT if flat else NESTED) if block else (FLAT_FIRST if flat else NESTED_FIRST)
        # A block without a shortcut keeps its expansion as a layer of its own, see backbones/mobilenet_v2.py.
        expand = f"backbone.block{block}_expand" if block in firsts else f"backbone.block{block}.expand"
        prefixes |= block_prefixes(f"backbone.block{block}", f"{theirs}{block + 1}.conv.", places, expand)
    return prefixes


def block_prefixes(ours: str, theirs: str, places: Places, expand: str) -> dict[str, str]:
    """One inverted residual block; ``expand`` is our name of its first convolution."""
    prefixes: dict[str, str] = {}
    for part, (conv, norm) in places.items():
        name = expand if part == "expand" else f"{ours}.{part}"
        prefixes |= conv_norm(name, f"{theirs}{conv}", f"{theirs}{norm}")
    return prefixes


def separable_heads(levels: int, boxes: str, logits: str, places: Sequence[int | None]) -> dict[str, str]:
    """Heads of depthwise convolution, BatchNorm (or none) and 1x1, the last level a plain 1x1.

    Args:
        levels: with the last.
        boxes, logits: their lists, where ``*`` stands for the level.
        places: of the depthwise convolution, its BatchNorm and the 1x1 in each.
    """
    depthwise, norm, pointwise = places
    prefixes: dict[str, str] = {}
    for kind, theirs in (("boxes", boxes), ("logits", logits)):
        for level in range(levels - 1):
            at, place = f"head.{kind}.{level}", theirs.replace("*", str(level))
            prefixes |= {f"{at}.depthwise.conv": f"{place}{depthwise}", f"{at}.pointwise": f"{place}{pointwise}"}
            if norm is not None:
                prefixes[f"{at}.depthwise.bn"] = f"{place}{norm}"
        prefixes[f"head.{kind}.{levels - 1}"] = f"{theirs.partition('*')[0]}{levels - 1}"
    return prefixes


def conv_norm(ours: str, theirs: str, norm: str = "") -> dict[str, str]:
    """A convolution with its BatchNorm: entries 0 and 1 of ``theirs``, unless the BatchNorm has a name of its own."""
    conv, norm = (theirs, norm) if norm else (f"{theirs}.0", f"{theirs}.1")
    return {f"{ours}.conv": conv, f"{ours}.bn": norm}


def _first_blocks() -> set[int]:
    """Blocks that change the stride or the channels."""
    firsts, index, before = set(), 0, 32
    for expansion, channels, count, _, stride in STAGES:
        if expansion > 1 and (stride != 1 or channels != before):
            firsts.add(index)
        index, before = index + count, channels
    return firsts
