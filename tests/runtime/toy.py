"""A detector so small that converting and compiling it takes little time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from singleshot.core.settings import PostprocessConfig, PreprocessConfig
from singleshot.detector import Detector
from singleshot.models.backbone import Layer, LayeredBackbone
from singleshot.models.build import build_network
from singleshot.models.registry import BACKBONES
from singleshot.models.zoo.assembled import AssembledConfig

NAMES = ("cat", "dog", "bird")
SIZE = (96, 128)


def toy_backbone(config: object) -> LayeredBackbone:
    """Two convolutions; the pooling rounds up, as VGG's third does."""
    layers = (
        Layer("a", nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.BatchNorm2d(8), nn.ReLU()), 8, 4),
        Layer("b", nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()), 16, 16),
    )
    return LayeredBackbone(layers, ("a", "b"))


def register() -> None:
    """Make the backbone known in this process."""
    BACKBONES.register("toy")(toy_backbone)


def save_toy(path: Path) -> Path:
    """Random weights with confident scores; the backbone must be known."""
    torch.manual_seed(0)
    config = AssembledConfig(
        network="toy", from_layers=("a", "b", ""), num_filters=(-1, -1, 16), strides=(-1, -1, 2), pads=(-1, -1, 1),
        sizes=((0.2,), (0.4,), (0.8,)), ratios=(1.0, 2.0),
    )  # fmt: skip
    changes = {
        "postprocess": PostprocessConfig(pre_nms_top_k=None),
        "preprocess": PreprocessConfig(size_hw=SIZE, std=(60,) * 3),
    }
    spec = config.to_spec(NAMES, SIZE).model_copy(update=changes)
    network = build_network(spec.network)
    for parameter in network.parameters():
        parameter.data *= 1.5
    return Detector(spec, network.state_dict()).save(path)


def noise(seed: int = 0) -> np.ndarray:
    """An image."""
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
