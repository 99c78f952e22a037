"""The rules by which golden files made their weights and images: functions of name, shape and seed."""

from __future__ import annotations

import math
import zlib

import numpy as np


def family_weight(name: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """Weights of the whole-network golden files of mxnet-ssd and mxnet-dssd, by MXNet name."""
    generator = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    if name.endswith("_weight"):
        values = generator.standard_normal(shape) * np.sqrt(gain / np.prod(shape[1:]))
    elif name.endswith("_scale"):
        values = np.full(shape, 20.0)
    elif name.endswith(("_gamma", "_moving_var")):
        values = generator.uniform(0.8, 1.2, shape)
    else:
        values = generator.standard_normal(shape) * 0.05
    return values.astype(np.float32)


_SCALES = ("scale_weight", "L2Norm.weight", "l2_norm.weight", "rescale_factors")
_HEADS = ("head.", "loc.", "conf.", "arm_", "odm_", "box_head.", "pred_convs.")


def w1_weight(name: str, shape: tuple[int, ...], seed: int, gain: float, head_gain: float = 1.0) -> np.ndarray:
    """Weights of the foreign checkpoints' golden files, by the foreign system's state-dict key."""
    generator = np.random.RandomState((zlib.crc32(name.encode()) + 1000003 * seed) & 0x7FFFFFFF)
    if name.endswith("num_batches_tracked"):
        return np.zeros((), dtype=np.int64)
    if name.endswith("running_var"):
        values = generator.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        values = 0.1 * generator.standard_normal(shape)
    elif name.endswith(_SCALES):
        values = generator.uniform(16, 24, shape)
    elif name.endswith("bias"):
        values = 0.1 * generator.standard_normal(shape)
    elif len(shape) == 1:
        values = generator.uniform(0.5, 1.5, shape)
    else:
        factor = head_gain if name.startswith(_HEADS) else gain
        values = generator.standard_normal(shape) * np.sqrt(factor / np.prod(shape[1:]))
    return values.astype(np.float32)


def i1_image(seed: int, height: int, width: int, cell: int = 12) -> np.ndarray:
    """Images of the foreign checkpoints' golden files: random colours in cells, RGB uint8 ``[H, W, 3]``."""
    shape = (math.ceil(height / cell), math.ceil(width / cell), 3)
    colours = np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)
    return colours.repeat(cell, 0).repeat(cell, 1)[:height, :width]
