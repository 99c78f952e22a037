from __future__ import annotations

import math

import pytest

from singleshot.models.zoo import box_shapes
from singleshot.multibox import shapes

PERCENT_TABLE = [
    ((300, 10, 20, 90, 6), (30, 60, 111, 162, 213, 264), 315),
    ((300, 7, 15, 90, 6), (21, 45, 99, 153, 207, 261), 315),
    ((512, 7, 15, 90, 7), (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8), 537.6),
    ((512, 4, 10, 90, 7), (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8), 542.72),
    ((321, 10, 20, 95, 6), (32.1, 64.2, 121.98, 179.76, 237.54, 295.32), 353.1),
    ((513, 4, 10, 95, 7), (20.52, 51.3, 138.51, 225.72, 312.93, 400.14, 487.35), 574.56),
]


@pytest.mark.parametrize(("arguments", "minima", "last"), PERCENT_TABLE)
def test_percent_sizes(arguments, minima, last):
    sizes = shapes.percent_sizes(*arguments)
    assert sizes.min_px == pytest.approx(minima)
    assert sizes.max_px == pytest.approx((*minima[1:], last))


def test_order_in_a_cell():
    level = shapes.ssd_anchors("voc300").levels[1]
    ratios = [w / h for w, h in level.shapes_wh]
    assert ratios == pytest.approx([1, 1, 2, 1 / 2, 3, 1 / 3])
    sides = [math.sqrt(w * h) * 300 for w, h in level.shapes_wh]
    assert sides == pytest.approx([60, math.sqrt(60 * 111), 60, 60, 60, 60])


def test_truncation_cuts_to_whole_pixels():
    small = [level.shapes_wh[0][0] * 512 for level in shapes.ssd_anchors("voc512", truncate=True).levels]
    assert small == pytest.approx([35, 76, 153, 230, 307, 384, 460])
    big = shapes.ssd_anchors("coco512", truncate=True).levels[-1].shapes_wh[1][0] * 512
    assert big == pytest.approx(math.sqrt(460 * 542))


def test_widths_are_fractions_of_a_wide_image():
    level = shapes.pixel_levels(shapes.PixelSizes((30.0,), (60.0,)), [(2.0,)], (300, 600), (8.0,))[0]
    assert level.shapes_wh[0] == pytest.approx((0.05, 0.1))
    assert level.step_hw == pytest.approx((8 / 300, 8 / 600))


@pytest.mark.parametrize(
    ("low", "high", "levels", "first", "last"),
    [(0.2, 0.9, 6, (0.1, 0.141421), (0.88, 0.961249)), (0.15, 0.9, 7, (0.07, 0.102470), (0.9, 0.972111))],
)
def test_mxnet_range(low, high, levels, first, last):
    sizes = box_shapes.mxnet_sizes(low, high, levels)
    assert len(sizes) == levels
    assert sizes[0] == pytest.approx(first, abs=1e-6)
    assert sizes[-1] == pytest.approx(last, abs=1e-6)


def test_mxnet_first_ratio_goes_with_every_size():
    level = box_shapes.mxnet_level((0.2, 0.4), (4.0, 1.0))
    assert sum(level.shapes_wh, ()) == pytest.approx((0.4, 0.1, 0.8, 0.2, 0.2, 0.2))


def test_mxnet_odd_ratios():
    assert box_shapes.mxnet_level((0.2,), (0.0,)).shapes_wh == ((0.0, math.inf),)
    assert box_shapes.mxnet_level((-0.2,), (0.0,)).shapes_wh == ((0.0, -math.inf),)
    assert all(math.isnan(side) for side in box_shapes.mxnet_level((0.2,), (-1.0,)).shapes_wh[0])


def test_tf_lowest_level_is_reduced():
    config = box_shapes.tf_anchors()
    assert config.boxes_per_cell == (3, 6, 6, 6, 6, 6)
    long, short = 0.2 * math.sqrt(2), 0.2 / math.sqrt(2)
    assert sum(config.levels[0].shapes_wh, ()) == pytest.approx((0.1, 0.1, long, short, short, long))
    bigs = [level.shapes_wh[-1][0] for level in config.levels[1:]]
    assert bigs == pytest.approx([0.4183, 0.5701, 0.7211, 0.8718, 0.9747], abs=1e-4)
    width, height = config.levels[1].shapes_wh[4]
    assert width / height == pytest.approx(0.3333, abs=1e-7)
    assert box_shapes.tf_anchors(reduce_lowest=False).boxes_per_cell == (6,) * 6


def test_sgrvinod_has_an_order_and_a_third_of_its_own():
    config = box_shapes.sgrvinod_anchors()
    ratios = [w / h for w, h in config.levels[1].shapes_wh]
    assert ratios == pytest.approx([1, 1, 2, 3, 0.5, 0.333])
    assert config.levels[-1].shapes_wh[1] == (1.0, 1.0)
    assert config.levels[-2].shapes_wh[1][0] == pytest.approx(math.sqrt(0.725 * 0.9))


def test_dssd_has_eight_boxes_per_cell():
    assert box_shapes.dssd_anchors(321).boxes_per_cell == (8,) * 6
    assert box_shapes.dssd_anchors(513).boxes_per_cell == (8,) * 7
