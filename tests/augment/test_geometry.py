from __future__ import annotations

import numpy as np
import plain_sequence
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot.augment.config import AugmentConfig, CropConfig, ExpandConfig, preset
from singleshot.augment.geometry import Geometry, sample_geometry, transform_boxes

NONE = np.zeros((0, 4), np.float32)


@st.composite
def scenes(draw):
    """An image size, boxes inside it, an output size and a geometry of the full recipe."""
    height, width = draw(st.integers(1, 700)), draw(st.integers(1, 700))
    unit = st.floats(0, 1, width=32)
    points = np.array(draw(st.lists(st.tuples(unit, unit, unit, unit), max_size=8)), np.float32).reshape(-1, 2, 2)
    boxes = (np.sort(points, axis=1) * np.array([width, height], np.float32)).reshape(-1, 4)
    config = preset(draw(st.sampled_from(["ssd", "ssd_pytorch", "mxnet_ssd", "light"]))).model_copy(
        update={"flip": 0.5}
    )
    out_hw = draw(st.sampled_from([(300, 300), (200, 320), (64, 37)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return boxes, sample_geometry(config, (height, width), boxes, out_hw, rng)


def test_small_expansions_may_be_left_out():
    config = AugmentConfig(expand=ExpandConfig(probability=1, max_ratio=2, min_ratio=1.5))
    rng = np.random.default_rng(0)
    steps = np.array([sample_geometry(config, (100, 100), NONE, (100, 100), rng).step_xy[0] for _ in range(400)])
    assert (steps == 1).mean() == pytest.approx(0.5, abs=0.08)
    assert steps[steps > 1].min() >= 1.5


def test_no_boxes():
    geometry = sample_geometry(preset("ssd"), (40, 50), NONE, (30, 30), np.random.default_rng(0))
    boxes, keep = transform_boxes(geometry, NONE)
    assert (boxes.shape, boxes.dtype, keep.shape, keep.dtype) == ((0, 4), np.float32, (0,), np.int64)


@pytest.mark.parametrize(
    ("geometry", "boxes", "expected", "kept"),
    [
        (Geometry((0, 0), (2, 1), (20, 10)), [[4, 5, 8, 10]], [[2, 5, 4, 10]], [0]),
        (Geometry((0, 0), (2, 1), (20, 10), mirror=True), [[4, 5, 8, 10]], [[6, 5, 8, 10]], [0]),
        (Geometry((0, 0), (2, 1), (20, 10), flip=True), [[4, 5, 8, 10]], [[2, 10, 4, 15]], [0]),
        (Geometry((-10, -20), (4, 4), (10, 10)), [[0, 0, 8, 8]], [[2.5, 5, 4.5, 7]], [0]),
        # Out; centre on the border of the patch; clipped.
        (Geometry((10, 10), (1, 1), (10, 10)), [[0, 0, 9, 9], [5, 10, 15, 12], [12, 12, 30, 16]], [[0, 0, 5, 2]], [1]),
        (Geometry((10, 10), (1, 1), (10, 10)), [[12, 12, 26, 16]], [[2, 2, 10, 6]], [0]),
    ],
)
def test_boxes_move_as_pixels_do(geometry, boxes, expected, kept):
    moved, keep = transform_boxes(geometry, np.array(boxes, np.float32))
    np.testing.assert_array_equal(moved, expected)
    np.testing.assert_array_equal(keep, kept)


@given(scenes())
@settings(max_examples=150, deadline=None)
def test_boxes_equal_the_plain_sequence(scene):
    boxes, geometry = scene
    moved, keep = transform_boxes(geometry, boxes)
    expected, kept = plain_sequence.plain_boxes(boxes, geometry)
    assert keep.tolist() == kept
    np.testing.assert_allclose(moved, np.array(expected).reshape(-1, 4), rtol=1e-5, atol=2e-4)


@given(scenes())
@settings(max_examples=150, deadline=None)
def test_boxes_that_stay_lie_in_the_output(scene):
    boxes, geometry = scene
    moved, keep = transform_boxes(geometry, boxes)
    height, width = geometry.out_hw
    assert (moved >= 0).all()
    assert (moved <= [width, height, width, height]).all()
    assert (moved[:, 2:] >= moved[:, :2]).all()
    assert (np.diff(keep) > 0).all()


@given(scenes())
@settings(max_examples=50, deadline=None)
def test_mirroring_twice_changes_nothing(scene):
    boxes, geometry = scene
    straight, keep = transform_boxes(geometry._replace(mirror=False, flip=False), boxes)
    height, width = geometry.out_hw
    upright = Geometry((0.0, 0.0), (1.0, 1.0), (height, width))
    for turn in ({"mirror": True}, {"flip": True}, {"mirror": True, "flip": True}):
        once, kept = transform_boxes(geometry._replace(**{"mirror": False, "flip": False} | turn), boxes)
        twice, _ = transform_boxes(upright._replace(**turn), once)
        np.testing.assert_array_equal(keep, kept)
        np.testing.assert_allclose(twice, straight, atol=1e-3)


def test_without_steps_the_whole_image_fills_the_output():
    geometry = sample_geometry(preset("none"), (375, 500), NONE, (300, 300), np.random.default_rng(0))
    assert geometry == Geometry((0.0, 0.0), (500 / 300, 1.25), (300, 300))


def test_expansion():
    """Half of the images grow; the side ratio is uniform from 1 to 4; the image stays on the canvas."""
    config = AugmentConfig(expand=ExpandConfig())
    rng = np.random.default_rng(0)
    geometries = [sample_geometry(config, (400, 500), NONE, (300, 300), rng) for _ in range(2000)]
    low = np.array([g.origin_xy for g in geometries])
    size = np.array([g.step_xy for g in geometries]) * 300
    ratio = size / [500, 400]
    grown = ratio[:, 0] > 1
    assert grown.mean() == pytest.approx(0.5, abs=0.04)
    assert ratio[grown].min() >= 1
    assert ratio[grown].max() <= 4
    assert ratio[grown].mean() == pytest.approx(2.5, abs=0.1)
    assert ratio[grown].std() == pytest.approx(3 / 12**0.5, abs=0.05)
    step = size / 300
    assert (low <= 0).all()
    assert (low + size >= [500, 400] - step).all()
    share = -low[grown] / np.maximum(size - [500, 400], 1)[grown]
    assert share.mean() == pytest.approx(0.5, abs=0.03)


def test_mirror_and_flip_follow_their_probabilities():
    config = AugmentConfig(mirror=0.5, flip=0.2)
    rng = np.random.default_rng(0)
    drawn = [sample_geometry(config, (10, 10), NONE, (10, 10), rng) for _ in range(2000)]
    assert np.mean([g.mirror for g in drawn]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([g.flip for g in drawn]) == pytest.approx(0.2, abs=0.04)


def test_reduction_needs_a_stored_pixel_per_output_pixel():
    rng = np.random.default_rng(0)
    for side, expected in [(300, 1), (599, 1), (600, 2), (1200, 4), (2399, 4), (2400, 8), (9600, 8)]:
        config = AugmentConfig(crop=CropConfig())
        assert sample_geometry(config, (side, side), NONE, (300, 300), rng).reduction == expected
        full = config.model_copy(update={"reduced_decode": False})
        assert sample_geometry(full, (side, side), NONE, (300, 300), rng).reduction == 1
