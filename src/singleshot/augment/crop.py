"""The IoU-constrained crop (SSD section 2.2). All trials of all samplers are drawn and judged at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.augment.config import CropConfig

Floats = NDArray[np.float64]

# The ssd.pytorch rule picks samplers until one succeeds; without a whole-image sampler that might never end.
MAX_PICKS = 50


class Canvas(NamedTuple):
    """A rectangle in pixels of the image, which it may exceed: corner and size as (x, y), ``[2]`` each."""

    low: Floats
    size: Floats


class Grid(NamedTuple):
    """Positions of a patch that a renderer can hit exactly, without sampling between pixels twice.

    Attributes:
        out_wh: output size, ``[2]``.
        max_reduction: how much smaller the image may be read.
    """

    out_wh: Floats
    max_reduction: int

    def reduction(self, step: Floats) -> Floats:
        """Largest of 1, 2, 4, 8 at which a read image still has a pixel per output pixel, ``[..., 2]`` -> ``[...]``."""
        finest = np.minimum(step[..., 0], step[..., 1])
        largest: Floats = np.exp2(np.floor(np.log2(np.minimum(np.maximum(finest, 1), self.max_reduction))))
        return largest

    def snap(self, low: Floats, size: Floats) -> Floats:
        """Move corners by at most an output pixel: to whole (reduced) image pixels inside the image; outside, so that
        the image's edge falls between two output pixels. ``[..., 2]``.
        """
        step = size / self.out_wh
        pixel = self.reduction(step)[..., None]
        return np.where(low < 0, np.rint(low / step) * step, np.floor(low / pixel) * pixel)


def sample_patch(
    config: CropConfig | None, canvas: Canvas, boxes_xyxy: Floats, grid: Grid, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw a patch of the canvas.

    Args:
        config: the rule; ``None`` takes the whole canvas.
        canvas: where patches lie.
        boxes_xyxy: objects, ``[N, 4]``. Without any, no sampler finds a patch and the whole canvas is taken.
        grid: where corners may lie.
        rng: source of randomness.

    Returns:
        Corner and size of the patch in pixels of the image, (x, y), ``[2]`` each.
    """
    found = None
    if config is not None and len(boxes_xyxy):
        pick = _pick_caffe if config.proposal == "caffe" else _pick_ssd_pytorch
        found = pick(config, canvas, boxes_xyxy, grid, rng)
    if found is not None:
        return found
    return grid.snap(canvas.low, canvas.size), canvas.size


def _pick_caffe(
    config: CropConfig, canvas: Canvas, boxes_xyxy: Floats, grid: Grid, rng: np.random.Generator
) -> tuple[Floats, Floats] | None:
    """Every sampler takes its first good patch; one of the samplers that found something is chosen."""
    min_ious = np.array([*config.min_ious, *([0.0] if config.unconstrained else [])])
    shape, position = rng.random((2, len(min_ious), config.trials, 2))
    scale = config.scale[0] + (config.scale[1] - config.scale[0]) * shape[..., 0]
    aspect = config.aspect[0] + (config.aspect[1] - config.aspect[0]) * shape[..., 1]
    root = np.sqrt(np.minimum(np.maximum(aspect, scale * scale), 1 / (scale * scale)))
    size = np.stack([scale * root, scale / root], axis=-1) * canvas.size
    low = grid.snap(canvas.low + position * (canvas.size - size), size)
    good = _best_iou(low, size, boxes_xyxy) >= min_ious[:, None]
    finders = np.flatnonzero(good.any(axis=1))
    choice = rng.integers(len(finders) + config.whole_image) if len(finders) or config.whole_image else 0
    if choice >= len(finders):
        return None
    sampler = finders[choice]
    trial = good[sampler].argmax()
    return low[sampler, trial], size[sampler, trial]


def _pick_ssd_pytorch(
    config: CropConfig, canvas: Canvas, boxes_xyxy: Floats, grid: Grid, rng: np.random.Generator
) -> tuple[Floats, Floats] | None:
    """A sampler is chosen; if none of its trials is good, another choice is made."""
    min_ious = [*config.min_ious, *([0.0] if config.unconstrained else [])]
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    for _ in range(MAX_PICKS):
        sampler = rng.integers(len(min_ious) + config.whole_image)
        if sampler >= len(min_ious):
            return None
        shape, position = rng.random((2, config.trials, 2))
        size = (config.scale[0] + (config.scale[1] - config.scale[0]) * shape) * canvas.size
        low = grid.snap(canvas.low + position * (canvas.size - size), size)
        aspect = size[:, 1] / size[:, 0]
        good = (aspect >= config.aspect[0]) & (aspect <= config.aspect[1])
        good &= _best_iou(low, size, boxes_xyxy) >= min_ious[sampler]
        good &= ((centres > low[:, None]) & (centres < (low + size)[:, None])).all(axis=-1).any(axis=-1)
        if good.any():
            trial = good.argmax()
            return low[trial], size[trial]
    return None


def _best_iou(low: Floats, size: Floats, boxes_xyxy: Floats) -> Floats:
    """Largest IoU of each patch with an object, ``[..., 2]`` twice and ``[N, 4]`` -> ``[...]``; N > 0."""
    high = low + size
    x0, y0, x1, y1 = boxes_xyxy.T
    width = np.minimum(high[..., 0, None], x1) - np.maximum(low[..., 0, None], x0)
    height = np.minimum(high[..., 1, None], y1) - np.maximum(low[..., 1, None], y0)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (size[..., 0] * size[..., 1])[..., None] + (x1 - x0) * (y1 - y0)
    best: Floats = (shared / (areas - shared)).max(axis=-1)
    return best
