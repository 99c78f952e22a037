from __future__ import annotations

import colorsys

import cv2
import numpy as np
import pytest

from singleshot.augment.colour import Distortion, distort, sample_distortion
from singleshot.augment.config import ColourConfig, preset

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8)


def changed(**values):
    return distort(IMAGE.copy(), Distortion(**values))


@pytest.mark.parametrize("arithmetic", ["uint8", "float"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 3, 3)])
def test_nothing_drawn_changes_nothing(arithmetic, shape):
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(distort(image.copy(), Distortion(arithmetic=arithmetic)), image)


@pytest.mark.parametrize("arithmetic", ["uint8", "float"])
@pytest.mark.parametrize("brightness", [-32.0, -0.4, 7.6, 32.0])
def test_brightness(arithmetic, brightness):
    expected = np.clip(IMAGE.astype(int) + round(brightness), 0, 255)
    np.testing.assert_array_equal(changed(brightness=brightness, arithmetic=arithmetic), expected)


@pytest.mark.parametrize("arithmetic", ["uint8", "float"])
@pytest.mark.parametrize("contrast_last", [False, True])
@pytest.mark.parametrize("contrast", [0.5, 1.37])
def test_contrast(arithmetic, contrast_last, contrast):
    found = changed(contrast=contrast, contrast_last=contrast_last, arithmetic=arithmetic)
    assert np.abs(found - np.clip(IMAGE * contrast, 0, 255)).max() <= 0.51


def test_uint8_saturates_between_steps_and_float_at_the_end():
    white = np.full((2, 2, 3), 250, np.uint8)
    values = {"brightness": 32.0, "contrast": 0.5}
    assert (distort(white.copy(), Distortion(**values)) == 128).all()
    assert (distort(white.copy(), Distortion(**values, arithmetic="float")) == 141).all()


@pytest.mark.parametrize("arithmetic", ["uint8", "float"])
@pytest.mark.parametrize(
    ("saturation", "hue"), [(0.5, 0), (1.5, 0), (1, 36), (1, -36), (1, 150), (1, -150), (0.7, 20), (1.3, -11)]
)
def test_saturation_and_hue_equal_colorsys(arithmetic, saturation, hue):
    found = changed(saturation=saturation, hue_degrees=hue, arithmetic=arithmetic).reshape(-1, 3)
    for pixel, result in zip(IMAGE.reshape(-1, 3).tolist(), found.tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(value / 255 for value in pixel))
        if arithmetic == "float" and s * saturation > 1:
            continue  # not limited until the end: no HSV colour to compare with
        expected = np.array(colorsys.hsv_to_rgb((h + hue / 360) % 1, min(s * saturation, 1), v)) * 255
        # HSV of 8 bits holds hues in steps of 2 degrees, and turns by such steps: twice 4.25 of 255 at most.
        assert np.abs(expected - result).max() <= (9 if arithmetic == "uint8" else 1)


@pytest.mark.parametrize(
    ("brightness", "saturation", "hue"),
    [(0, 0, 0), (20, 0, 0), (-31.9, 0, 0), (0, 32, 0), (0, -32, 0), (7, 9, 30), (0, 0, -36)],
)
def test_hls_offsets_equal_colorsys(brightness, saturation, hue):
    """MXNet's: whole steps of L, S and H, each kept within its range."""
    values = {"brightness": brightness, "saturation_offset": saturation, "hue_degrees": hue}
    found = changed(space="hls", **values).reshape(-1, 3)
    for pixel, result in zip(IMAGE.reshape(-1, 3).tolist(), found.tolist(), strict=True):
        h, level, s = colorsys.rgb_to_hls(*(value / 255 for value in pixel))
        h, level, s = h + int(hue / 2) / 180, level + int(brightness) / 255, s + saturation / 255
        expected = colorsys.hls_to_rgb(*(min(max(value, 0), 1) for value in (h, level, s)))
        assert np.abs(np.array(expected) * 255 - result).max() <= 9  # HLS of 8 bits


def test_hues_of_hls_stop_at_red():
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    np.testing.assert_allclose(distort(red.copy(), Distortion(space="hls", hue_degrees=-36)), red, atol=1)
    assert distort(red.copy(), Distortion(hue_degrees=-36)).max(axis=(0, 1)).tolist() == [255, 0, 153]


def test_contrast_of_hls_comes_last():
    found = changed(space="hls", brightness=20, contrast=0.5)
    np.testing.assert_array_equal(found, cv2.convertScaleAbs(changed(space="hls", brightness=20), alpha=0.5))


def unlimited(image, brightness, contrast, saturation, hue, contrast_last):
    """ssd.pytorch's steps by the definition of HSV, in float64; nothing is limited."""
    pixels = image.astype(float) + brightness
    pixels = pixels if contrast_last else pixels * contrast
    value, least = pixels.max(-1), pixels.min(-1)
    spread = np.where(value > least, value - least, 1.0)
    r, g, b = np.moveaxis(pixels, -1, 0)
    sector = np.where(value == r, (g - b) / spread, np.where(value == g, 2 + (b - r) / spread, 4 + (r - g) / spread))
    sector = (sector + hue / 60) % 6
    chroma = (value - least) * saturation
    planes = [value - chroma * np.clip(np.minimum((n + sector) % 6, 4 - (n + sector) % 6), 0, 1) for n in (5, 3, 1)]
    result = np.stack(planes, -1)
    return result * contrast if contrast_last else result


@pytest.mark.parametrize("contrast_last", [False, True])
@pytest.mark.parametrize(
    ("brightness", "contrast", "saturation", "hue"),
    [(0, 1, 1, 0), (32, 1, 1, 0), (32, 1.5, 1, 0), (20, 1.4, 1.5, 0), (10, 1.5, 1.5, 18), (30, 0.5, 0.6, -18)],
)
def test_unlimited_colours_equal_a_plain_formula(brightness, contrast, saturation, hue, contrast_last):
    """Also beyond 255 and below 0."""
    found = changed(
        brightness=float(brightness), contrast=contrast, saturation=saturation, hue_degrees=float(hue),
        contrast_last=contrast_last, arithmetic="unlimited",
    )  # fmt: skip
    assert found.dtype == np.float32
    expected = unlimited(IMAGE, brightness, contrast, saturation, hue, contrast_last)
    np.testing.assert_allclose(found, expected, atol=0.02)
    limited = changed(
        brightness=float(brightness), contrast=contrast, saturation=saturation, hue_degrees=float(hue),
        contrast_last=contrast_last, arithmetic="float",
    )  # fmt: skip
    assert np.abs(np.clip(found, 0, 255) - limited).max() <= 0.51
    assert (saturation <= 1) or (found.max() > 255 and found.min() < 0)


def test_unlimited_colours_reorder_channels_and_keep_undistorted_images():
    image = changed(channels=(2, 0, 1), arithmetic="unlimited")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, IMAGE[..., [2, 0, 1]])


def test_hues_wrap():
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 200
    for arithmetic in ("uint8", "float"):
        magenta = distort(red.copy(), Distortion(hue_degrees=-30, arithmetic=arithmetic))[0, 0]
        assert magenta[0] == 200
        assert magenta[1] == 0
        assert magenta[2] == pytest.approx(100, abs=4)


def test_contrast_before_or_after_saturation():
    values = {"brightness": 20.0, "contrast": 1.5, "saturation": 1.4}
    assert (changed(**values) != changed(**values, contrast_last=True)).any()


def test_channel_order():
    np.testing.assert_array_equal(changed(channels=(2, 0, 1)), IMAGE[..., [2, 0, 1]])


def test_no_colours_no_draws():
    rng = np.random.default_rng(3)
    assert sample_distortion(None, rng) == Distortion()
    assert rng.random() == np.random.default_rng(3).random()


def test_each_change_follows_its_probability_and_range():
    rng = np.random.default_rng(0)
    drawn = [sample_distortion(preset("ssd_pytorch").colour, rng) for _ in range(3000)]
    for name, neutral, low, high in [
        ("brightness", 0, -32, 32),
        ("contrast", 1, 0.5, 1.5),
        ("saturation", 1, 0.5, 1.5),
        ("hue_degrees", 0, -18, 18),
    ]:
        values = np.array([getattr(d, name) for d in drawn])
        active = values[values != neutral]
        assert len(active) / len(drawn) == pytest.approx(0.5, abs=0.04)
        assert low <= active.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < active.max() <= high
        assert active.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
    assert np.mean([d.contrast_last for d in drawn]) == pytest.approx(0.5, abs=0.04)
    # Half are shuffled, and one order of six is the old one.
    assert np.mean([d.channels != (0, 1, 2) for d in drawn]) == pytest.approx(5 / 12, abs=0.04)


def test_mxnet_ssd_draws_offsets():
    rng = np.random.default_rng(0)
    drawn = [sample_distortion(preset("mxnet_ssd").colour, rng) for _ in range(3000)]
    for name, largest in (("brightness", 32), ("saturation_offset", 32), ("hue_degrees", 36)):
        values = np.array([getattr(d, name) for d in drawn])
        assert (values != 0).mean() == pytest.approx(0.5, abs=0.04)
        assert 0.98 * largest < np.abs(values).max() <= largest
    assert {d.saturation for d in drawn} == {1.0}


def test_caffe_never_shuffles_channels():
    rng = np.random.default_rng(0)
    assert {sample_distortion(preset("ssd").colour, rng).channels for _ in range(50)} == {(0, 1, 2)}


def test_changes_are_independent():
    rng = np.random.default_rng(0)
    drawn = [sample_distortion(ColourConfig(), rng) for _ in range(3000)]
    active = np.array([[d.brightness != 0, d.contrast != 1, d.saturation != 1, d.hue_degrees != 0] for d in drawn])
    assert np.abs(np.corrcoef(active.T) - np.eye(4)).max() < 0.08
