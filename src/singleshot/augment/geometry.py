"""Expand, crop, resize and mirror as one map from image to output, drawn before any pixel is read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.augment.config import AugmentConfig, ExpandConfig
from singleshot.augment.crop import Canvas, Grid, sample_patch

Floats = NDArray[np.float64]


class Geometry(NamedTuple):
    """Which part of the plane fills the output.

    Output pixel (x, y) lies at ``origin_xy + (x + 0.5, y + 0.5) * step_xy`` in the image, before mirroring. The plane
    outside the image has the fill colour.

    Attributes:
        origin_xy: corner of the patch, in pixels of the image; negative beyond its left and top edges.
        step_xy: image pixels per output pixel.
        out_hw: output size.
        reduction: 1, 2, 4 or 8: the image may be read this much smaller. ``origin_xy`` lies on that grid.
        mirror, flip: swap left and right, top and bottom.
    """

    origin_xy: tuple[float, float]
    step_xy: tuple[float, float]
    out_hw: tuple[int, int]
    reduction: int = 1
    mirror: bool = False
    flip: bool = False


def sample_geometry(
    config: AugmentConfig,
    image_hw: tuple[int, int],
    boxes_xyxy: NDArray[np.floating],
    out_hw: tuple[int, int],
    rng: np.random.Generator,
) -> Geometry:
    """Draw an expansion, a crop and a mirroring.

    Args:
        config: the recipe.
        image_hw: size of the upright image.
        boxes_xyxy: objects in its pixels, ``[N, 4]``; N may be 0.
        out_hw: output size.
        rng: source of randomness.
    """
    grid = Grid(np.array([out_hw[1], out_hw[0]], dtype=np.float64), 8 if config.reduced_decode else 1)
    canvas = _sample_canvas(config.expand, image_hw, rng)
    low, size = sample_patch(config.crop, canvas, boxes_xyxy.astype(np.float64), grid, rng)
    step = size / grid.out_wh
    return Geometry(
        origin_xy=(float(low[0]), float(low[1])),
        step_xy=(float(step[0]), float(step[1])),
        out_hw=out_hw,
        reduction=int(grid.reduction(step)),
        mirror=bool(rng.random() < float(config.settled().mirror)),
        flip=bool(rng.random() < config.flip),
    )


def transform_boxes(
    geometry: Geometry, boxes_xyxy: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Move boxes into the output.

    An object stays if its centre lies in the patch, borders included, and is clipped to it (Caffe).

    Args:
        geometry: the map.
        boxes_xyxy: in pixels of the image, ``[N, 4]``.

    Returns:
        The boxes that stay in pixels of the output, ``[K, 4]``, and their rows in ``boxes_xyxy``, ``[K]``.
    """
    boxes = boxes_xyxy.astype(np.float64)
    out_wh = np.array([geometry.out_hw[1], geometry.out_hw[0]], dtype=np.float64)
    low, step = np.array(geometry.origin_xy), np.array(geometry.step_xy)
    high = low + step * out_wh
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    keep = np.flatnonzero(((centre >= low) & (centre <= high)).all(axis=1))
    corners = np.minimum(np.maximum((boxes[keep].reshape(-1, 2, 2) - low) / step, 0), out_wh)
    if geometry.mirror:
        corners[:, :, 0] = out_wh[0] - corners[:, ::-1, 0]
    if geometry.flip:
        corners[:, :, 1] = out_wh[1] - corners[:, ::-1, 1]
    return corners.reshape(-1, 4).astype(np.float32), keep


def _sample_canvas(config: ExpandConfig | None, image_hw: tuple[int, int], rng: np.random.Generator) -> Canvas:
    """The image's rectangle, or a larger one around it at whole pixels."""
    image_wh = np.array([image_hw[1], image_hw[0]], dtype=np.float64)
    if config is None or rng.random() >= config.probability:
        return Canvas(np.zeros(2), image_wh)
    ratio = rng.uniform(1.0, config.max_ratio)
    if ratio < config.min_ratio:
        return Canvas(np.zeros(2), image_wh)
    size = np.floor(image_wh * ratio)
    return Canvas(-np.floor(rng.random(2) * (size - image_wh)), size)
