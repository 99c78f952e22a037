from __future__ import annotations

import numpy as np
import plain_sequence
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot.augment.config import CropConfig, preset
from singleshot.augment.crop import Canvas, Grid, sample_patch

CANVAS = Canvas(np.zeros(2), np.array([500.0, 400.0]))
FINE = Grid(np.array([30000.0, 30000.0]), 1)
GRID = Grid(np.array([300.0, 300.0]), 8)
PROPOSALS = ("caffe", "ssd_pytorch", "mxnet")
BOXES = np.array([[30.0, 60.0, 230.0, 300.0], [300.0, 100.0, 420.0, 390.0], [10.0, 10.0, 40.0, 50.0]])


def corners(patch):
    return np.concatenate([patch[0], patch[0] + patch[1]])


def draws(config, boxes, count, grid=FINE, canvas=CANVAS, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([corners(sample_patch(config, canvas, boxes, grid, rng)) for _ in range(count)])


def is_whole(patches):
    return (patches == [0, 0, 500, 400]).all(axis=1)


@pytest.mark.parametrize("proposal", PROPOSALS[:2])
def test_without_objects_the_whole_image_is_taken(proposal):
    config = CropConfig(proposal=proposal, whole_image=False)
    assert is_whole(draws(config, np.zeros((0, 4)), 5)).all()


def test_without_a_rule_the_whole_image_is_taken():
    assert is_whole(draws(None, BOXES, 3)).all()


@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("min_iou", [0.1, 0.5, 0.9])
def test_accepted_patches_overlap_an_object_enough(proposal, min_iou):
    config = CropConfig(proposal=proposal, min_ious=(min_iou,), whole_image=False, unconstrained=False)
    patches = draws(config, BOXES, 60, GRID)
    cropped = patches[~is_whole(patches)]
    assert len(cropped) >= 10 or min_iou == 0.9
    for patch in cropped:
        assert max(plain_sequence.iou(patch, box) for box in BOXES) >= min_iou - 1e-9


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_an_object_too_small_for_any_patch_leaves_the_whole_image(proposal):
    # The smallest patch has 9 % of the area: it cannot overlap a box of 10 x 10 by 0.1. (A test on the least IoU, as
    # in ssd.pytorch, would accept every patch.)
    config = CropConfig(proposal=proposal, min_ious=(0.1, 0.9), unconstrained=False, whole_image=False)
    assert is_whole(draws(config, np.array([[200.0, 200.0, 210.0, 210.0]]), 20)).all()


@pytest.mark.parametrize("proposal", PROPOSALS[1:])
def test_patches_hold_a_centre(proposal):
    centre = (BOXES[:, :2] + BOXES[:, 2:]) / 2
    for patch in draws(CropConfig(proposal=proposal, whole_image=False), BOXES, 50, GRID):
        assert ((centre > patch[:2]) & (centre < patch[2:])).all(axis=1).any()


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_distribution_equals_a_loop(proposal):
    config = CropConfig(proposal=proposal)
    loop = getattr(plain_sequence, f"{proposal}_patch")
    rng = np.random.default_rng(1)
    size = tuple(CANVAS.size)
    slow = np.array([loop(config, size, BOXES.tolist(), rng) or (0, 0, *size) for _ in range(600)])
    fast = draws(config, BOXES, 2400)
    features = [
        np.column_stack([is_whole(p), (p[:, 2:] - p[:, :2]) / size, (p[:, 2:] + p[:, :2]) / size]) for p in (slow, fast)
    ]
    error = np.sqrt(sum(f.var(axis=0) / len(f) for f in features))
    assert (np.abs(features[0].mean(axis=0) - features[1].mean(axis=0)) < 4 * error).all()


def test_mxnet_ssd_keeps_the_whole_image_once_in_six():
    """One object as large as the image: a patch's IoU is its share of the area, so .9 is found in 25 trials now and
    then, and another sampler is tried where it is not."""
    patches = draws(preset("mxnet_ssd").crop, np.array([[0.0, 0.0, 500.0, 400.0]]), 1200)
    assert is_whole(patches).mean() == pytest.approx(1 / 6, abs=0.035)
    shares = (patches[:, 2:] - patches[:, :2]).prod(axis=1) / (500 * 400)
    assert shares.min() >= 0.1 - 1e-9  # no sampler accepts less
    assert shares[~is_whole(patches)].min() < 0.2


@pytest.mark.parametrize("trials", [1, 5, 25])
def test_mxnet_stops_after_its_trials(trials):
    """One object as large as the image, square patches: IoU .81 needs a side of .9, which a trial has once in seven."""
    config = CropConfig(
        proposal="mxnet", min_ious=(0.81,), unconstrained=False, whole_image=False, aspect=(1, 1), trials=trials
    )
    canvas = Canvas(np.zeros(2), np.array([400.0, 400.0]))
    patches = draws(config, np.array([[0, 0, 400.0, 400.0]]), 1500, canvas=canvas)
    assert (patches == [0, 0, 400, 400]).all(axis=1).mean() == pytest.approx((6 / 7) ** trials, abs=0.04)


def test_mxnet_crops_images_without_objects():
    patches = draws(preset("mxnet_ssd").crop, np.zeros((0, 4)), 600)
    assert is_whole(patches).mean() == pytest.approx(1 / 6, abs=0.05)
    aspect = np.divide(*(patches[:, 2:] - patches[:, :2])[~is_whole(patches)].T)
    assert 0.5 - 1e-6 <= aspect.min() < 0.6
    assert 1.7 < aspect.max() <= 2 + 1e-6


def test_caffe_chooses_evenly_among_the_samplers_that_found_something():
    # One object that fills the image: IoU is the patch's share of the area, so every sampler finds something, if only
    # given trials enough.
    config = CropConfig(trials=1000, scale=(0.3, 1.0), aspect=(1.0, 1.0))
    patches = draws(config, np.array([[0.0, 0.0, 500.0, 400.0]]), 700)
    assert is_whole(patches).mean() == pytest.approx(1 / 7, abs=0.05)


@given(
    low=st.tuples(st.floats(-2000, 3000), st.floats(-2000, 3000)),
    size=st.tuples(st.floats(1, 5000), st.floats(1, 5000)),
)
@settings(deadline=None)
def test_snapping_moves_by_an_output_pixel_at_most(low, size):
    low, size = np.array(low), np.array(size)
    step = size / GRID.out_wh
    snapped, pixel = GRID.snap(low, size), GRID.reduction(step)
    # Image pixels may be larger than output pixels; then half of an image pixel is not the limit, one is.
    assert (np.abs(snapped - low) <= np.maximum(step, 1) + 1e-6).all()
    assert pixel in (1, 2, 4, 8)
    assert pixel == 1 or pixel <= step.min()
    inside = snapped >= 0
    np.testing.assert_allclose((snapped / pixel)[inside], np.rint(snapped / pixel)[inside], atol=1e-9)
    np.testing.assert_allclose((snapped / step)[~inside], np.rint(snapped / step)[~inside], atol=1e-6)
