"""Shapes of default boxes by the recipes of other systems and papers, as pure Python that builds ``AnchorLevel``s.

SSD's own are in ``multibox.shapes``. A shape is (width, height) as a fraction of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from singleshot.core.settings import AnchorConfig, AnchorLevel
from singleshot.multibox.shapes import (
    SSD_RATIOS_300,
    SSD_STEPS_300,
    Clip,
    PixelSizes,
    ShapeWH,
    percent_sizes,
    pixel_levels,
    ratio_shapes,
    ssd_anchors,
    with_reciprocals,
)


def scale_levels(
    scales: Sequence[float],
    ratios: Sequence[Sequence[float]],
    steps: Sequence[float] | None = None,
) -> tuple[AnchorLevel, ...]:
    """Levels by scale, as torchvision's ``DefaultBoxGenerator`` describes them.

    Args:
        scales: one more than there are levels, as fractions; the big square is the geometric mean with the next.
        ratios: per level, without reciprocals.
        steps: centre spacing per level as fractions; ``None`` divides the image by the map.
    """
    levels = []
    for index, (small, following) in enumerate(pairwise(scales)):
        shapes = ratio_shapes(small, with_reciprocals(ratios[index]), math.sqrt(small * following))
        step = None if steps is None else (steps[index], steps[index])
        levels.append(AnchorLevel(shapes_wh=shapes, step_hw=step))
    return tuple(levels)


def torchvision_ssd300_anchors() -> AnchorConfig:
    """torchvision's ``ssd300_vgg16``: COCO scales up to 1.05, only widths and heights clipped."""
    scales = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
    levels = scale_levels(scales, SSD_RATIOS_300, [step / 300 for step in SSD_STEPS_300])
    return AnchorConfig(levels=levels, reference_hw=(300, 300), clip="size")


def torchvision_ssdlite_anchors() -> AnchorConfig:
    """torchvision's ``ssdlite320_mobilenet_v3_large``: 6 boxes everywhere, spacing by the maps (3,234 at 320)."""
    scales = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
    return AnchorConfig(levels=scale_levels(scales, [(2.0, 3.0)] * 6), clip="size")


def mxnet_level(sizes: Sequence[float], ratios: Sequence[float], step_hw: ShapeWH | None = None) -> AnchorLevel:
    """A level of MXNet's ``MultiBoxPrior``: every size at the first ratio, then the first size at the other ratios.

    Args:
        sizes: fractions of the image; a negative one inverts its box, as in MXNet.
        ratios: width / height; ratio 0 gives an infinite height, as in MXNet.
        step_hw: centre spacing as fractions.
    """
    pairs = [*((size, ratios[0]) for size in sizes), *((sizes[0], ratio) for ratio in ratios[1:])]
    return AnchorLevel(shapes_wh=tuple(_mxnet_shape(size, ratio) for size, ratio in pairs), step_hw=step_hw)


def _mxnet_shape(size: float, ratio: float) -> ShapeWH:
    if ratio > 0:
        return size * math.sqrt(ratio), size / math.sqrt(ratio)
    return (math.nan, math.nan) if ratio < 0 else (0.0, math.copysign(math.inf, size) if size else math.nan)


def mxnet_sizes(low: float, high: float, levels: int) -> tuple[ShapeWH, ...]:
    """mxnet-ssd's rule from a [low, high] range to (size, geometric mean with the next size) per level.

    Whole-percent steps as in Caffe; the first level has half the lowest size. The rule needs three levels: the second
    of two reaches from the lowest size to the highest, and so does a lone one.
    """
    if levels < 3:
        second = (low, math.sqrt(low * high))
        return (second,) if levels == 1 else ((low / 2, low / math.sqrt(2)), second)
    step = math.floor((100 * high - 100 * low) / (levels - 2) + 1e-9) / 100
    mins = [math.floor(50 * low + 1e-9) / 100, *(low + step * k for k in range(levels - 1))]
    maxs = [low + step * k for k in range(levels)]
    return tuple((small, math.sqrt(small * large)) for small, large in zip(mins, maxs, strict=True))


def mxnet_anchors(
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[Sequence[float]],
    steps: Sequence[float] | None = None,
    reference_hw: tuple[int, int] | None = None,
) -> AnchorConfig:
    """Default boxes of mxnet-ssd and mxnet-dssd, square in the pixels of each map.

    Args:
        sizes, ratios: per level.
        steps: centre spacing per level as fractions, for x and y alike.
        reference_hw: input size that the steps were written for.
    """
    levels = tuple(
        mxnet_level(sizes[k], ratios[k], None if steps is None else (steps[k], steps[k])) for k in range(len(sizes))
    )
    return AnchorConfig(levels=levels, reference_hw=reference_hw, aspect="map")


def tf_anchors(
    levels: int = 6,
    low: float = 0.2,
    high: float = 0.95,
    ratios: Sequence[float] = (1.0, 2.0, 0.5, 3.0, 0.3333),
    reduce_lowest: bool = True,
) -> AnchorConfig:
    """Default boxes of TF's ``ssd_anchor_generator`` (1,917 with the defaults at 300).

    Args:
        levels: number of feature maps, at least 2.
        low, high: scales of the first and last level, linear between.
        ratios: as listed in TF's config, where a third is written .3333.
        reduce_lowest: the first level has only (.1, 1), (low, 2), (low, 1/2): ``reduce_boxes_in_lowest_layer``.
    """
    scales = [low + (high - low) * k / (levels - 1) for k in range(levels)] + [1.0]
    shapes = [_tf_shapes(scales[k], scales[k + 1], ratios) for k in range(levels)]
    if reduce_lowest:
        shapes[0] = (*ratio_shapes(0.1, ()), *ratio_shapes(low, (2.0, 0.5))[1:])
    return AnchorConfig(levels=tuple(AnchorLevel(shapes_wh=level) for level in shapes))


def _tf_shapes(scale: float, following: float, ratios: Sequence[float]) -> tuple[ShapeWH, ...]:
    big = math.sqrt(scale * following)
    return (*((scale * math.sqrt(ratio), scale / math.sqrt(ratio)) for ratio in ratios), (big, big))


def sgrvinod_anchors() -> AnchorConfig:
    """Default boxes of sgrvinod's tutorial: scales and ratio order of its own, .333 for a third, no steps."""
    scales = (0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.0)
    bigs = [math.sqrt(a * b) for a, b in pairwise(scales[:6])] + [1.0]
    few, many = (2.0, 0.5), (2.0, 3.0, 0.5, 0.333)
    ratios = (few, many, many, many, few, few)
    shapes = [ratio_shapes(scales[k], ratios[k], bigs[k]) for k in range(6)]
    return AnchorConfig(levels=tuple(AnchorLevel(shapes_wh=level) for level in shapes), clip="centre")


def nvidia_anchors() -> AnchorConfig:
    """Default boxes of NVIDIA's SSD300: SSD's for COCO, ordered shape by shape."""
    return ssd_anchors("coco300", clip="centre").model_copy(update={"layout": "shape"})


def pytorch_ssd_anchors() -> AnchorConfig:
    """Default boxes of pytorch-ssd's ``mb1-ssd``: six in every cell (3,000 at 300)."""
    sizes = PixelSizes((60.0, 105.0, 150.0, 195.0, 240.0, 285.0), (105.0, 150.0, 195.0, 240.0, 285.0, 330.0))
    levels = pixel_levels(sizes, [(2.0, 3.0)] * 6, (300, 300), (16.0, 32.0, 64.0, 100.0, 150.0, 300.0))
    return AnchorConfig(levels=levels, reference_hw=(300, 300), clip="centre")


def refinedet_anchors(size: int, clip: Clip = "none") -> AnchorConfig:
    """Default boxes of RefineDet: three per cell with sides of 4 strides (6,375 at 320, 16,320 at 512).

    Args:
        size: side of the network input in pixels.
        clip: ``none`` as the authors, ``centre`` as RefineDet.PyTorch.
    """
    steps = (8.0, 16.0, 32.0, 64.0)
    sizes = PixelSizes(tuple(4 * step for step in steps), (0.0,) * 4)
    return AnchorConfig(
        levels=pixel_levels(sizes, [(2.0,)] * 4, (size, size), steps), reference_hw=(size, size), clip=clip
    )


DSSD_PERCENT = {321: (10, 20, 95, 6), 513: (4, 10, 95, 7)}
"""First, lowest and highest scale in percent, and the number of maps, by input size."""


def dssd_anchors(size: Literal[321, 513]) -> AnchorConfig:
    """Default boxes of DSSD321 (17,080) and DSSD513 (43,688): eight per cell, spaced by the real maps.

    The ratios are the paper's (section 3.2, from k-means on the training boxes).
    """
    sizes = percent_sizes(size, *DSSD_PERCENT[size])
    return AnchorConfig(levels=pixel_levels(sizes, [(1.6, 2.0, 3.0)] * len(sizes.min_px), (size, size)))


DSSD321_CENTRES = ((2.5, 8), (2.5, 16), (10.5, 32), (26.5, 64), (90.5, 64), (160.5, 321))
"""(first centre, spacing) in pixels of each map: the middle of what a cell's convolutions see, then of the image."""


def dssd321_released_anchors() -> AnchorConfig:
    """Default boxes of DSSD321's scripts: `dssd_anchors` about the middle of what each cell sees."""
    size: Literal[321] = 321
    levels = [
        level.model_copy(update={"step_hw": (step / size,) * 2, "offset_yx": (start / step,) * 2})
        for level, (start, step) in zip(dssd_anchors(size).levels, DSSD321_CENTRES, strict=True)
    ]
    return AnchorConfig(levels=tuple(levels), reference_hw=(size, size))
