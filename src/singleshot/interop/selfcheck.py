"""What is checked of imported weights before anyone relies on them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from singleshot.errors import WeightsError
from singleshot.models.build import build_anchors
from singleshot.models.config import ModelSpec
from singleshot.weights.file import read_spec, read_state
from singleshot.weights.network import load_network

NOISE_SEED = 0
MOST_SINGLE_CELLS = 2


class SelfCheck(NamedTuple):
    """What was found right.

    Attributes:
        anchors: default boxes, as many as the heads have rows.
        logits: (smallest, largest) class logit of a noise image; finite.
        maps_hw: of the sources, finest first.
    """

    anchors: int
    logits: tuple[float, float]
    maps_hw: tuple[tuple[int, int], ...]

    @property
    def doubt(self) -> str:
        """What is strange about the maps, or nothing: detectors are built so that one or two end as a single cell."""
        single = self.maps_hw.count((1, 1))
        return "" if single <= MOST_SINGLE_CELLS else f"{single} of {len(self.maps_hw)} maps are one cell: too small?"


def check_saved(path: Path, spec: ModelSpec, state: dict[str, Tensor], name: Path | None = None) -> SelfCheck:
    """Compare a saved weights file with what it was made from, and both with themselves.

    Args:
        path: the file.
        spec, state: what it was made from.
        name: what messages call it.

    Raises:
        WeightsError: it reads back different, heads and anchors differ in number, or outputs are not finite.
    """
    name = name or path
    if read_spec(path) != spec:
        raise WeightsError(f"{name}: its description reads back different from what was written")
    height, width = spec.preprocess.size_hw
    generator = torch.Generator().manual_seed(NOISE_SEED)
    images = torch.rand((1, spec.network.backbone.in_channels, height, width), generator=generator) * 2 - 1
    network, again = load_network(spec, state, name), load_network(spec, read_state(path), name)
    with torch.no_grad():
        outputs, repeated = network(images), again(images)
    for one, other in zip(outputs, repeated, strict=True):
        if not torch.equal(one, other) or not bool(torch.isfinite(one).all()):
            raise WeightsError(f"{name}: outputs are not finite, or differ from those before saving")
    anchors = len(build_anchors(spec, network))
    if anchors != outputs[0].shape[1]:
        raise WeightsError(f"{name}: {outputs[0].shape[1]} rows of the heads for {anchors} default boxes")
    logits = outputs[1]
    return SelfCheck(anchors, (float(logits.min()), float(logits.max())), network.map_sizes_hw((height, width)))
