"""The compiled forms of the preprocessing against the NumPy ones: equal to the bit."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from singleshot.core.settings import PreprocessConfig
from singleshot.images.preprocess import preprocess_image, resize_image
from singleshot.images.read import read_image
from singleshot.kernels import resize

pytestmark = pytest.mark.skipif(resize._library() is None, reason="no C compiler here")

RESIZES = ("linear", "linear_float", "linear_legacy", "linear_antialias")
SIDES = st.one_of(st.integers(1, 12), st.integers(1, 200))
NUMBERS = st.sampled_from([0.0, 1.0, -2.5, 123.68, 0.48235])
STDS = st.sampled_from([1.0, 1 / 255, 58.395, 0.229])
CONFIGS = st.builds(
    PreprocessConfig,
    size_hw=st.tuples(SIDES, SIDES),
    resize=st.sampled_from(RESIZES),
    channel_order=st.sampled_from(["rgb", "bgr"]),
    scale=st.sampled_from([1.0, 1 / 255, 2 / 255, 0.0078431377]),
    mean=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    std=st.tuples(STDS, STDS, STDS),
)


def python_form(image: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    with patch.object(resize, "_library", return_value=None):
        return preprocess_image(image, config)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(SIDES, SIDES, CONFIGS, st.integers(0, 9))
@example(1, 1, PreprocessConfig(size_hw=(1, 1), resize="linear_legacy"), 0)
@example(1, 2, PreprocessConfig(size_hw=(3, 300), resize="linear_float"), 0)
@example(200, 199, PreprocessConfig(size_hw=(1, 1), resize="linear_float"), 0)
@example(200, 199, PreprocessConfig(size_hw=(1, 2), resize="linear_antialias"), 0)
@settings(max_examples=400, deadline=None)
def test_equal_to_the_numpy_form(height: int, width: int, config: PreprocessConfig, seed: int) -> None:
    image = noise(height, width, seed)
    np.testing.assert_array_equal(preprocess_image(image, config), python_form(image, config))


@pytest.mark.parametrize("name", RESIZES)
def test_equal_on_photos(name: str, reference: Path) -> None:
    config = PreprocessConfig(size_hw=(300, 320), resize=name, scale=2 / 255, mean=(1.0, 1.0, 1.0))
    for path in sorted((reference / "data/coco_train343/images").glob("*.jpg"))[:24]:
        image = read_image(path)
        np.testing.assert_array_equal(preprocess_image(image, config), python_form(image, config))


@given(SIDES, SIDES, CONFIGS, st.integers(0, 3), st.sampled_from([1, 2, -1]), st.sampled_from([1, -1]))
@settings(max_examples=100, deadline=None)
def test_views(height: int, width: int, config: PreprocessConfig, margin: int, step: int, channels: int) -> None:
    """Crops, flips and BGR arrays turned to RGB are views with other strides."""
    whole = noise(2 * height + margin, width + margin)
    view = whole[::step][:height, margin:, ::channels]
    expected = python_form(np.ascontiguousarray(view), config)
    np.testing.assert_array_equal(preprocess_image(view, config), expected)


@pytest.mark.parametrize("name", RESIZES)
@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 16])
def test_reads_nothing_beyond_the_image(name: str, width: int) -> None:
    """The image's neighbours in memory, on all sides and up to the last byte of the array, do not count."""
    config = PreprocessConfig(size_hw=(7, 2 * width + 1), resize=name)
    image = noise(4, width)
    results = []
    for surroundings in (0, 255):
        frame = np.full((6, width + 2, 3), surroundings, dtype=np.uint8)
        frame[1:5, 1:-1] = image
        results.append(preprocess_image(frame[1:5, 1:-1], config))
    np.testing.assert_array_equal(results[0], preprocess_image(image, config))
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("name", RESIZES)
def test_writes_nothing_beyond_the_output(name: str) -> None:
    config = PreprocessConfig(size_hw=(5, 7), resize=name)
    batch = np.full((3, 3, 5, 7), -999, dtype=np.float32)
    preprocess_image(noise(9, 11), config, batch[1])
    assert (batch[[0, 2]] == -999).all()
    assert (batch[1] != -999).all()


@pytest.mark.parametrize("name", ["linear_float", "linear_legacy"])
def test_an_output_with_gaps_is_written_by_the_numpy_form(name: str) -> None:
    config = PreprocessConfig(size_hw=(5, 7), resize=name)
    wide = np.zeros((3, 5, 14), dtype=np.float32)
    preprocess_image(noise(9, 11), config, wide[..., ::2])
    np.testing.assert_array_equal(wide[..., ::2], preprocess_image(noise(9, 11), config))
    assert (wide[..., 1::2] == 0).all()


def test_resized_bytes_are_rounded_and_clamped_as_pillows() -> None:
    """Weights may be anything; a sum beyond a byte is clamped."""
    image = np.array([[10], [200]], dtype=np.uint8)
    indices, bits = np.array([[0, 1, 0], [1, 1, 0]]), 4
    weights = np.array([[8, 24, -16], [8, 16, 0]], dtype=np.int32)
    found = resize.weigh_rows(image, indices, weights, bits)
    np.testing.assert_array_equal(found, [[105], [255], [0]])


def test_size_is_the_images_where_it_is_kept() -> None:
    image = noise(6, 9)
    np.testing.assert_array_equal(
        resize_image(image, PreprocessConfig(size_hw=(6, 9), resize="linear_antialias")), image
    )
