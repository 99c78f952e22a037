"""Checkpoints of other systems, made by rule W1 from their listings, and what their golden files say of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from golden_rules import i1_image, w1_weight


class Golden(NamedTuple):
    """A golden file of a real system: listing of the checkpoint, the rule's numbers, and the image."""

    file: str
    listing: str
    seed: int
    gain: float
    size_hw: tuple[int, int]
    source: str


GOLDEN = (
    Golden("torchvision_ssd300_vgg16_c21_s2", "torchvision_ssd300_vgg16_c21", 2, 1.2, (375, 251), "torchvision"),
    Golden("torchvision_ssd300_vgg16_c91_s1", "torchvision_ssd300_vgg16_c91", 1, 1.2, (240, 320), "torchvision"),
    Golden(
        "torchvision_ssdlite320_c21_s2", "torchvision_ssdlite320_mobilenet_v3_large_c21", 2, 1.7, (375, 251),
        "torchvision",
    ),
    Golden(
        "torchvision_ssdlite320_c91_s1", "torchvision_ssdlite320_mobilenet_v3_large_c91", 1, 1.7, (240, 320),
        "torchvision",
    ),
    Golden("amdegroot_ssd300_c21_s3", "amdegroot_ssd300_voc", 3, 1.2, (300, 300), "ssd_pytorch"),
    Golden("lufficc_vgg_ssd300_s4", "lufficc_vgg_ssd300_voc0712", 4, 1.2, (300, 300), "lufficc"),
    Golden("lufficc_vgg_ssd512_c21_s4", "lufficc_vgg_ssd512_voc0712", 4, 1.2, (512, 512), "lufficc"),
    Golden("lufficc_mobilenet_v2_ssd320_s5", "lufficc_mobilenet_v2_ssd320_voc0712", 5, 1.9, (320, 320), "lufficc"),
    Golden("refinedet320_c21_s6", "luuuyi_refinedet320", 6, 1.2, (320, 320), "refinedet_pytorch"),
    Golden("nvidia_ssd300_resnet50_s7", "nvidia_ssd300_resnet50", 7, 1.0, (300, 300), "nvidia"),
)  # fmt: skip


def listing(reference: Path, name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint."""
    shapes = json.loads((reference / "spec/state_dicts" / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in shapes.items()}


def w1_state(shapes: dict[str, tuple[int, ...]], seed: int, gain: float) -> dict[str, Tensor]:
    """A state dict by rule W1."""
    return {key: torch.from_numpy(np.asarray(w1_weight(key, shape, seed, gain))) for key, shape in shapes.items()}


def w1_file(reference: Path, golden: Golden, folder: Path) -> Path:
    """The checkpoint behind a golden file, written by PyTorch."""
    path = folder / f"{golden.file}.pth"
    torch.save(w1_state(listing(reference, golden.listing), golden.seed, golden.gain), path)
    return path


def golden_arrays(reference: Path, golden: Golden) -> dict[str, Any]:
    with np.load(reference / "golden/weights" / f"{golden.file}.npz", allow_pickle=False) as file:
        return dict(file)


def golden_image(golden: Golden) -> np.ndarray:
    """The image by rule I1, RGB uint8."""
    return i1_image(100 + golden.seed, *golden.size_hw)


def every_nth(arrays: dict[str, Any]) -> int:
    """Which rows the short arrays of a golden file hold."""
    return int(re.search(r"every (\d+)th", json.loads(str(arrays["meta"]))["rows"])[1])  # type: ignore[index]


def relative(ours: Any, theirs: np.ndarray) -> float:
    """Largest difference over the golden array's largest value."""
    return float(np.abs(np.asarray(ours, dtype=np.float64) - theirs).max() / np.abs(theirs).max())
