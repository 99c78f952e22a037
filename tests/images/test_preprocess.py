"""Preprocessing against what the original systems compute: TensorFlow.js, torch, Pillow, OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot.core.settings import PreprocessConfig
from singleshot.images.preprocess import preprocess_image, resize_image
from singleshot.images.read import read_image
from singleshot.kernels import resize as kernel

RESIZES = ("linear", "linear_float", "linear_legacy", "linear_antialias")
SIZES = ((48, 64), (10, 7), (97, 33), (1, 1), (2, 300))


@pytest.fixture(autouse=True, scope="module", params=["compiled", "python"])
def form(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(kernel, "_library", lambda: None)
        elif kernel._library() is None:
            pytest.skip("no C compiler here")
        yield


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def config(resize: str, size_hw: tuple[int, int] = (20, 30), **rest: object) -> PreprocessConfig:
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return PreprocessConfig(size_hw=size_hw, resize=resize, **{**plain, **rest})


@pytest.mark.parametrize("resize", RESIZES)
def test_one_pixel_fills_the_input(resize: str) -> None:
    image = np.array([[[10, 20, 30]]], dtype=np.uint8)
    result = preprocess_image(image, config(resize, (2, 3)))
    np.testing.assert_array_equal(result, np.float32([10, 20, 30])[:, None, None].repeat(2, 1).repeat(3, 2))


@pytest.mark.parametrize("resize", RESIZES)
def test_same_size_is_the_image(resize: str) -> None:
    image = noise(20, 30)
    np.testing.assert_array_equal(preprocess_image(image, config(resize)), image.transpose(2, 0, 1))


def test_legacy_reads_from_the_top_left() -> None:
    image = np.zeros((1, 4, 3), dtype=np.uint8)
    image[0, :, 0] = [0, 10, 20, 40]
    result = preprocess_image(image, config("linear_legacy", (1, 8)))
    np.testing.assert_array_equal(result[0, 0], [0, 5, 10, 15, 20, 30, 40, 40])


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_mean_and_std_are_in_the_networks_channel_order(resize: str, order: str) -> None:
    image = noise(9, 9)
    mean, std = (1.0, 20.0, 100.0), (2.0, 4.0, 8.0)
    result = preprocess_image(image, config(resize, (9, 9), scale=0.5, mean=mean, std=std, channel_order=order))
    channels = image if order == "rgb" else image[..., ::-1]
    expected = (channels.astype(np.float32) * 0.5 - np.float32(mean)) / np.float32(std)
    np.testing.assert_allclose(result, expected.transpose(2, 0, 1), rtol=1e-6)


@pytest.mark.parametrize("resize", RESIZES)
def test_out_is_written_and_returned(resize: str) -> None:
    batch = np.full((2, 3, 20, 30), -1, dtype=np.float32)
    image = noise(40, 50)
    assert preprocess_image(image, config(resize), out=batch[1]) is not None
    np.testing.assert_array_equal(batch[1], preprocess_image(image, config(resize)))
    assert (batch[0] == -1).all()


@pytest.mark.parametrize("size_hw", SIZES)
def test_linear_is_opencv(size_hw: tuple[int, int]) -> None:
    image = noise(*size_hw)
    expected = cv2.resize(image, (30, 20)).astype(np.float32) - np.float32([123, 117, 104])
    result = preprocess_image(image, config("linear", mean=(123.0, 117.0, 104.0)))
    np.testing.assert_array_equal(result, expected.transpose(2, 0, 1))


@pytest.mark.parametrize("size_hw", SIZES)
def test_linear_float_is_torch(size_hw: tuple[int, int]) -> None:
    image = noise(*size_hw)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
    expected = torch.nn.functional.interpolate(tensor, (20, 30), mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(preprocess_image(image, config("linear_float")), expected, atol=2e-3)


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("to_hw", [(20, 30), (300, 7), (1, 1), (64, 64)])
def test_antialias_is_pillow(size_hw: tuple[int, int], to_hw: tuple[int, int]) -> None:
    """Along one axis to the bit; along both to 1, because Pillow's order of the axes has changed over the years."""
    pillow = pytest.importorskip("PIL.Image")
    image = noise(*size_hw)
    for target, tolerance in (((size_hw[0], to_hw[1]), 0), ((to_hw[0], size_hw[1]), 0), (to_hw, 1)):
        expected = pillow.fromarray(image).resize(target[::-1], pillow.Resampling.BILINEAR)
        result = resize_image(image, config("linear_antialias", target))
        assert np.abs(result.astype(int) - np.asarray(expected)).max() <= tolerance


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(RESIZES),
)
@settings(max_examples=100, deadline=None)
def test_values_stay_between_the_images(from_hw: tuple[int, int], to_hw: tuple[int, int], resize: str) -> None:
    image = noise(*from_hw)
    result = preprocess_image(image, config(resize, to_hw))
    assert result.shape == (3, *to_hw)
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    assert (result >= low[:, None, None] - 1e-3).all()
    assert (result <= high[:, None, None] + 1e-3).all()


@pytest.mark.parametrize("resize", RESIZES)
def test_panoramas(resize: str) -> None:
    """OpenCV counts some coordinates in 16 bits."""
    image = noise(3, 40_000)
    halves = preprocess_image(np.ascontiguousarray(image[:, 20_000:]), config(resize, (3, 5)))
    whole = preprocess_image(image, config(resize, (3, 10)))[:, :, 5:]
    np.testing.assert_allclose(whole, halves, atol=1e-3 if resize != "linear_antialias" else 2)


@pytest.mark.parametrize("resize", RESIZES)
def test_views_are_read_right(resize: str) -> None:
    """``bgr[..., ::-1]`` and crops are views with odd strides."""
    image = noise(40, 50)
    for view in (image[..., ::-1], image[::-1, 3:], image[:, ::2]):
        expected = preprocess_image(np.ascontiguousarray(view), config(resize))
        np.testing.assert_array_equal(preprocess_image(view, config(resize)), expected)


def test_input_of_the_real_runtime(reference: Path) -> None:
    """TensorFlow.js computes the resize and the scaling inside its graph; ours is the same to the bit."""
    golden = np.load(reference / "golden/weights/tfjs_ssdlite_mobilenet_v2_coco.npz")
    tf = config("linear_legacy", (300, 300), scale=0.0078431377, mean=(1.0, 1.0, 1.0))
    for k, name in enumerate(golden["files"]):
        image = read_image(reference / "data/coco_train343/images" / str(name))
        assert image.sum(dtype=np.int64) == golden[f"i{k}_pixel_sum"]
        result = preprocess_image(image, tf)
        np.testing.assert_array_equal(result[:, :16, :16], golden[f"i{k}_input_corner"])
        np.testing.assert_allclose(result.mean((1, 2), dtype=np.float64), golden[f"i{k}_input_mean"], atol=1e-9)
