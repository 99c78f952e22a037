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

    Arrays have x and y along their first axis, ``[2, ...]``.

    Attributes:
        out_wh: output size, ``[2]``.
        max_reduction: how much smaller the image may be read.
    """

    out_wh: Floats
    max_reduction: int

    def reduction(self, step: Floats) -> Floats:
        """Largest of 1, 2, 4, 8 at which a read image still has a pixel per output pixel, ``[2, ...]`` -> ``[...]``."""
        finest = np.minimum(step[0], step[1])
        largest: Floats = np.exp2(np.floor(np.log2(np.minimum(np.maximum(finest, 1), self.max_reduction))))
        return largest

    def snap(self, low: Floats, size: Floats) -> Floats:
        """Move corners by at most an output pixel: to whole (reduced) image pixels inside the image; outside, so that
        the image's edge falls between two output pixels. ``[2, ...]``.
        """
        step = size / _column(self.out_wh, size.ndim)
        pixel = self.reduction(step)
        return np.where(low < 0, np.rint(low / step) * step, np.floor(low / pixel) * pixel)


def sample_patch(
    config: CropConfig | None, canvas: Canvas, boxes_xyxy: Floats, grid: Grid, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw a patch of the canvas.

    Args:
        config: the rule; ``None`` takes the whole canvas.
        canvas: where patches lie.
        boxes_xyxy: objects, ``[N, 4]``. Without any, no sampler finds a patch and the whole canvas is taken; to
            ``mxnet`` any patch is good then.
        grid: where corners may lie.
        rng: source of randomness.

    Returns:
        Corner and size of the patch in pixels of the image, (x, y), ``[2]`` each.
    """
    found = None
    if config is not None and (len(boxes_xyxy) or config.proposal == "mxnet"):
        pick = {"caffe": _pick_caffe, "ssd_pytorch": _pick_ssd_pytorch, "mxnet": _pick_mxnet}[config.proposal]
        found = pick(config, canvas, boxes_xyxy, grid, rng)
    if found is not None:
        return found
    return grid.snap(canvas.low, canvas.size), canvas.size


def _pick_caffe(
    config: CropConfig, canvas: Canvas, boxes_xyxy: Floats, grid: Grid, rng: np.random.Generator
) -> tuple[Floats, Floats] | None:
    """Every sampler takes its first good patch; one of the samplers that found something is chosen."""
    min_ious = _min_ious(config)
    u = rng.random((4, len(min_ious), config.trials))
    scale = _between(config.scale, u[0])
    root = np.sqrt(np.minimum(np.maximum(_between(config.aspect, u[1]), scale * scale), 1 / (scale * scale)))
    size = np.stack([scale * root, scale / root]) * _column(canvas.size, 3)
    low, overlap = _place(u[2:], size, canvas, boxes_xyxy, grid)
    good = overlap >= min_ious[:, None]
    finders = np.flatnonzero(good.any(axis=1))
    choices = len(finders) + config.whole_image
    choice = rng.integers(choices) if choices else 0
    if choice == len(finders):
        return None
    sampler = finders[choice]
    trial = good[sampler].argmax()
    return low[:, sampler, trial], size[:, sampler, trial]


def _pick_ssd_pytorch(
    config: CropConfig, canvas: Canvas, boxes_xyxy: Floats, grid: Grid, rng: np.random.Generator
) -> tuple[Floats, Floats] | None:
    """A sampler is chosen; if none of its trials is good, another choice is made."""
    min_ious = _min_ious(config)
    for _ in range(MAX_PICKS):
        sampler = rng.integers(len(min_ious) + config.whole_image)
        if sampler == len(min_ious):
            return None
        u = rng.random((4, config.trials))
        size = _between(config.scale, u[:2]) * _column(canvas.size, 2)
        low, overlap = _place(u[2:], size, canvas, boxes_xyxy, grid)
        aspect = size[1] / size[0]
        good = (aspect >= config.aspect[0]) & (aspect <= config.aspect[1]) & (overlap >= min_ious[sampler])
        good &= _holds_centre(low, size, boxes_xyxy)
        if good.any():
            trial = good.argmax()
            return low[:, trial], size[:, trial]
    return None


def _pick_mxnet(
    config: CropConfig, canvas: Canvas, boxes_xyxy: Floats, grid: Grid, rng: np.random.Generator
) -> tuple[Floats, Floats] | None:
    """Of the samplers in random order, the first with a good patch gives its first one."""
    min_ious = _min_ious(config)
    if config.whole_image and rng.random() * (len(min_ious) + 1) < 1:
        return None
    order = rng.permutation(len(min_ious))
    u = rng.random((4, len(min_ious), config.trials))
    scale = _between(config.scale, u[0])
    image_aspect = canvas.size[0] / canvas.size[1]
    lowest = np.maximum(config.aspect[0] / image_aspect, scale * scale)
    highest = np.minimum(config.aspect[1] / image_aspect, 1 / (scale * scale))
    root = np.sqrt(lowest + np.maximum(highest - lowest, 0) * u[1])
    size = np.minimum(np.stack([scale * root, scale / root]), 1) * _column(canvas.size, 3)
    low, overlap = _place(u[2:], size, canvas, boxes_xyxy, grid)
    good = (overlap >= min_ious[:, None]) & _holds_centre(low, size, boxes_xyxy) if len(boxes_xyxy) else overlap >= 0
    finders = order[np.any(good[order], axis=1)]
    if not len(finders):
        return None
    sampler, trial = finders[0], good[finders[0]].argmax()
    return low[:, sampler, trial], size[:, sampler, trial]


def _holds_centre(low: Floats, size: Floats, boxes_xyxy: Floats) -> NDArray[np.bool_]:
    """Whether patches ``[2, ...]`` hold an object's centre strictly inside, ``[...]``."""
    centres = ((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2).T.reshape(2, *(1,) * (low.ndim - 1), -1)
    inside = (centres > low[..., None]) & (centres < (low + size)[..., None])
    held: NDArray[np.bool_] = (inside[0] & inside[1]).any(axis=-1)
    return held


def _min_ious(config: CropConfig) -> Floats:
    return np.array([*config.min_ious, *([0.0] if config.unconstrained else [])])


def _between(bounds: tuple[float, float], u: Floats) -> Floats:
    return bounds[0] + (bounds[1] - bounds[0]) * u


def _column(xy: Floats, dimensions: int) -> Floats:
    """(x, y) along the first of several axes."""
    return xy.reshape(2, *(1,) * (dimensions - 1))


def _place(u: Floats, size: Floats, canvas: Canvas, boxes_xyxy: Floats, grid: Grid) -> tuple[Floats, Floats]:
    """Corners of patches and their largest IoU with an object.

    Args:
        u: where each lies between the canvas's ends, 0 to 1, ``[2, ...]``.
        size: sizes, ``[2, ...]``.
        canvas: what they lie in.
        boxes_xyxy: objects, ``[N, 4]``.
        grid: where corners may lie.

    Returns:
        Corners ``[2, ...]`` and IoUs ``[...]``, 0 without objects.
    """
    low = grid.snap(_column(canvas.low, size.ndim) + u * (_column(canvas.size, size.ndim) - size), size)
    return low, _best_iou(low.reshape(2, 1, -1), size.reshape(2, 1, -1), boxes_xyxy).reshape(size.shape[1:])


def _best_iou(low: Floats, size: Floats, boxes_xyxy: Floats) -> Floats:
    """Largest IoU of patches ``[2, 1, P]`` with any object, ``[P]``; patches last, since objects are few."""
    near, far = boxes_xyxy[:, :2].T[..., None], boxes_xyxy[:, 2:].T[..., None]
    sides = np.minimum(low + size, far) - np.maximum(low, near)
    np.maximum(sides, 0, out=sides)
    shared = sides[0] * sides[1]
    areas = size[0] * size[1] + (far[0] - near[0]) * (far[1] - near[1])
    best: Floats = (shared / (areas - shared)).max(axis=0, initial=0.0)
    return best
