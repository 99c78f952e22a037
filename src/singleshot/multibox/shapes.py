"""SSD's default boxes: which shapes stand on each feature map (section 2.2, equation 4). Needs no torch.

A shape is (width, height) as a fraction of the image. ``anchors.default_boxes`` places the shapes on the maps. The
recipes of other systems are in ``models.zoo.box_shapes``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from singleshot.core.settings import AnchorConfig, AnchorLevel

ShapeWH = tuple[float, float]
Recipe = Literal["voc300", "coco300", "voc512", "coco512"]
Clip = Literal["none", "corner", "centre", "size"]

SSD_RATIOS_300 = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
SSD_RATIOS_512 = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
SSD_STEPS_300 = (8.0, 16.0, 32.0, 64.0, 100.0, 300.0)
SSD_STEPS_512 = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class PixelSizes(NamedTuple):
    """Sides in pixels of each level's small square, and the sides that the big squares are the geometric means with."""

    min_px: tuple[float, ...]
    max_px: tuple[float, ...]


class _Scales(NamedTuple):
    """Side of the input in pixels, and scales in percent of it: the first level's own, then s_min and s_max."""

    size: int
    first: int
    low: int
    high: int


_RECIPES: dict[Recipe, _Scales] = {
    "voc300": _Scales(300, 10, 20, 90),
    "coco300": _Scales(300, 7, 15, 90),
    "voc512": _Scales(512, 7, 15, 90),
    "coco512": _Scales(512, 4, 10, 90),
}
"""What the authors' Caffe scripts train with."""


def ssd_anchors(recipe: Recipe, clip: Clip = "none", truncate: bool = False) -> AnchorConfig:
    """Default boxes of SSD300 (8,732) and SSD512 (24,564) with the scales used for VOC or COCO.

    Args:
        recipe: input size and scales.
        clip: ``none`` as the Caffe scripts, ``centre`` as ssd.pytorch and lufficc.
        truncate: whole-pixel sizes (Caffe's layer).
    """
    size, first, low, high = _RECIPES[recipe]
    ratios, steps = (SSD_RATIOS_300, SSD_STEPS_300) if size == 300 else (SSD_RATIOS_512, SSD_STEPS_512)
    sizes = percent_sizes(size, first, low, high, len(ratios))
    levels = pixel_levels(sizes, ratios, (size, size), steps, truncate)
    return AnchorConfig(levels=levels, reference_hw=(size, size), clip=clip)


def percent_sizes(size: int, first: int, low: int, high: int, levels: int) -> PixelSizes:
    """Sides s_k of the small squares by equation 4, and s_{k+1}, as the authors' scripts compute them.

    Equation 4 is s_k = s_min + (s_max - s_min)(k - 1) / (m - 1) for k = 1 ... m. The scripts leave the first map out of
    it and give it a smaller scale of its own; the other m - 1 maps are spaced in whole percents.

    Args:
        size: side of the network input in pixels.
        first: percent of the first level.
        low, high: s_min and s_max in percent.
        levels: m, at least 3.
    """
    step = (high - low) // (levels - 2)
    percents = [first, *(low + step * k for k in range(levels))]
    sizes = [size * percent / 100 for percent in percents]
    return PixelSizes(tuple(sizes[:levels]), tuple(sizes[1 : levels + 1]))


def ratio_shapes(small: float, ratios: Sequence[float], big: float | None = None) -> tuple[ShapeWH, ...]:
    """Small square, big square if there is one, then the small one's area at each ratio (SSD section 2.2).

    Args:
        small: s_k, side of the small square.
        ratios: width / height a of the further boxes, exactly as listed: w = s_k sqrt(a), h = s_k / sqrt(a).
        big: side of the big square, sqrt(s_k s_{k+1}) in SSD.
    """
    squares = [(small, small)] if big is None else [(small, small), (big, big)]
    return (*squares, *((small * math.sqrt(ratio), small / math.sqrt(ratio)) for ratio in ratios))


def with_reciprocals(ratios: Sequence[float]) -> tuple[float, ...]:
    """Each ratio followed by its reciprocal, the order of the SSD heads."""
    return tuple(value for ratio in ratios for value in (ratio, 1.0 / ratio))


def pixel_levels(
    sizes: PixelSizes,
    ratios: Sequence[Sequence[float]],
    size_hw: tuple[int, int],
    steps_px: Sequence[float] | None = None,
    truncate: bool = False,
) -> tuple[AnchorLevel, ...]:
    """Levels as Caffe's PriorBox, ssd.pytorch, lufficc and NVIDIA describe them.

    Args:
        sizes: sides in pixels; where a max is 0 the level has no big square (RefineDet).
        ratios: per level, without reciprocals.
        size_hw: network input in pixels.
        steps_px: centre spacing per level in pixels; ``None`` divides the image by the map.
        truncate: cut sizes to whole pixels, as Caffe's layer does; it matters at 512.
    """
    height, width = size_hw
    levels = []
    for index, (low, high) in enumerate(zip(*sizes, strict=True)):
        small, limit = (float(int(low)), float(int(high))) if truncate else (low, high)
        shapes = ratio_shapes(small, with_reciprocals(ratios[index]), math.sqrt(small * limit) if limit else None)
        step = None if steps_px is None else (steps_px[index] / height, steps_px[index] / width)
        levels.append(AnchorLevel(shapes_wh=tuple((w / width, h / height) for w, h in shapes), step_hw=step))
    return tuple(levels)
