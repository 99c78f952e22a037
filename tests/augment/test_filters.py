"""Our tables of area and Lanczos interpolation, and the kernel that applies them, against OpenCV in float32."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from singleshot.augment import render
from singleshot.augment.filters import area_filter, lanczos_filter
from singleshot.kernels import resample

needs_compiler = pytest.mark.skipif(not resample.has_kernel(), reason="no C compiler here")

SIDES = st.one_of(st.integers(1, 12), st.integers(1, 200))
FACTORS = st.one_of(st.floats(0.1, 4.0), st.sampled_from([1.0, 0.5, 0.25, 1 / 3, 2.0]))
FLAGS = [cv2.INTER_LANCZOS4, cv2.INTER_AREA]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@needs_compiler
@pytest.mark.parametrize("flag", FLAGS)
@given(height=SIDES, width=SIDES, factor_x=FACTORS, factor_y=FACTORS)
@example(height=1, width=1, factor_x=1.0, factor_y=1.0)
@example(height=1, width=2, factor_x=4.0, factor_y=1.0)
@example(height=200, width=200, factor_x=0.1, factor_y=4.0)
@settings(max_examples=150, deadline=None)
def test_is_opencvs(flag: int, height: int, width: int, factor_x: float, factor_y: float) -> None:
    """Sums of float32 in another order: a value between two bytes may be rounded to either."""
    assume(round(height * factor_y) > 0 and round(width * factor_x) > 0)
    image = noise(height, width)
    exact = cv2.resize(image.astype(np.float32), None, fx=factor_x, fy=factor_y, interpolation=flag)
    found = render._resize(image, factor_x, factor_y, flag)
    assert found.shape == exact.shape
    np.testing.assert_allclose(found, exact.clip(0, 255), atol=0.5 + 2e-3)


@needs_compiler
@pytest.mark.parametrize("flag", FLAGS)
def test_views_are_read_right_and_their_surroundings_are_not(flag: int) -> None:
    image = noise(31, 47)
    for view in (image[:, 5:40], image[::-1], image[..., ::-1], image[3:20:2, ::2]):
        expected = render._resize(np.ascontiguousarray(view), 0.7, 1.3, flag)
        np.testing.assert_array_equal(render._resize(view, 0.7, 1.3, flag), expected)
    crop = image[8:20, 9:30]
    first = render._resize(crop, 0.7, 1.3, flag)
    image[:8], image[20:], image[:, :9], image[:, 30:] = 255, 255, 255, 255
    np.testing.assert_array_equal(render._resize(crop, 0.7, 1.3, flag), first)


@needs_compiler
def test_beyond_the_edge_the_image_repeats() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    first, weights = np.array([-3, -1, 0, 1, 2]), np.tile(np.float32([0, 0.5, 0.5]), (5, 1))
    table = resample.Filter(first, weights)
    found = resample.filter_image(image, table, table)
    places = np.clip(first[:, None] + np.array([1, 2]), 0, 1)
    rows = image.astype(np.float32)[places].mean(axis=1)
    np.testing.assert_array_equal(found, np.rint(rows[:, places].mean(axis=2)))


@needs_compiler
def test_sums_are_clamped() -> None:
    image = np.full((1, 1, 3), 200, dtype=np.uint8)
    one = resample.Filter(np.array([0]), np.float32([[1]]))
    for weight, expected in ((2.0, 255), (-1.0, 0), (0.5025, 100), (0.5075, 102)):
        found = resample.filter_image(image, one, resample.Filter(np.array([0]), np.float32([[weight]])))
        assert (found == expected).all()


@needs_compiler
@pytest.mark.parametrize("first", [-2, 3])
def test_places_too_far_outside_are_refused(first: int) -> None:
    table = resample.Filter(np.array([first]), np.ones((1, 1), np.float32))
    with pytest.raises(ValueError, match="expected"):
        resample.filter_image(noise(2, 2), table, table)


@given(SIDES, FACTORS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_weights_sum_to_one(size: int, factor: float, shrinks: bool) -> None:
    assume(round(size * factor) > 0)
    for table in (lanczos_filter(size, factor), area_filter(size, factor, shrinks and factor <= 1)):
        assert len(table.first) == round(size * factor)
        np.testing.assert_allclose(table.weights.sum(axis=1), 1, atol=4e-3)
        assert (table.first >= -table.weights.shape[1]).all()
        assert (table.first <= size).all()


@pytest.mark.parametrize("flag", FLAGS)
def test_without_a_compiler_opencv_does_it(flag: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(40, 50)
    compiled = render._resize(image, 0.6, 0.8, flag)
    monkeypatch.setattr(resample, "_library", lambda: None)
    assert np.abs(render._resize(image, 0.6, 0.8, flag).astype(int) - compiled).max() <= 1
