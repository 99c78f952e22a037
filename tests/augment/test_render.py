from __future__ import annotations

import io

import cv2
import numpy as np
import plain_sequence
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from singleshot.augment.colour import Distortion
from singleshot.augment.config import PRESETS, preset
from singleshot.augment.geometry import Geometry, sample_geometry, transform_boxes
from singleshot.augment.render import Pixels, decode, render
from singleshot.errors import ImageError

FILL = (123, 117, 104)
PLAIN = Distortion()
MODES = preset("ssd").interpolations


def smooth(height, width, seed=0, sigma=4.0):
    noise = np.random.default_rng(seed).normal(128, 40 * sigma, (height, width, 3)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), sigma).clip(0, 255).astype(np.uint8)


def jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=97, subsampling=0, **options)
    return file.getvalue()


def rendered(image, geometry, mode="linear", distortion=PLAIN):
    return render(Pixels(image, image.shape[:2]), geometry, mode, distortion, FILL)


def inner(geometry, size_hw, rim=2):
    """Output pixels that are not next to an edge of the image or of the patch, where interpolations differ."""
    height, width = geometry.out_hw
    masks = []
    for axis, out in ((0, width), (1, height)):
        place = geometry.origin_xy[axis] + (np.arange(out) + 0.5) * geometry.step_xy[axis]
        reach = rim * max(geometry.step_xy[axis], 1)
        far = (np.abs(place) > reach) & (np.abs(place - size_hw[1 - axis]) > reach)
        mask = far & (np.minimum(np.arange(out), np.arange(out)[::-1]) >= rim * max(1, 1 / geometry.step_xy[axis]))
        masks.append(mask[::-1] if (geometry.mirror, geometry.flip)[axis] else mask)
    return masks[1][:, None] & masks[0][None, :]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size_hw", [(1, 1), (375, 500), (300, 300), (120, 640)])
def test_the_whole_image_is_one_opencv_resize(mode, size_hw):
    image = smooth(*size_hw)
    geometry = sample_geometry(preset("none"), size_hw, np.zeros((0, 4)), (300, 300), np.random.default_rng(0))
    expected = cv2.resize(image, (300, 300), interpolation=getattr(cv2, f"INTER_{mode.upper()}"))
    found = rendered(image, geometry, mode)
    assert found.flags.c_contiguous
    # Two of the five are computed in float32.
    assert np.abs(found.astype(int) - expected).max() <= (1 if mode in ("area", "lanczos4") else 0)


@pytest.mark.parametrize("origin", [(-4000.0, 0.0), (600.0, 0.0), (0.0, -4000.0), (0.0, 400.0)])
def test_a_patch_beside_the_image_is_fill(origin):
    found = rendered(smooth(375, 500), Geometry(origin, (2.0, 2.0), (30, 40)), distortion=Distortion(brightness=30))
    assert (found == FILL).all()
    assert found.shape == (30, 40, 3)


@pytest.mark.parametrize("mode", MODES)
def test_a_sliver_of_an_image(mode):
    for width in (1, 2, 3):
        found = rendered(smooth(200, width), Geometry((-100.0, -100.0), (3.0, 3.0), (300, 300)), mode)
        assert found.shape == (300, 300, 3)


@st.composite
def drawn_geometries(draw):
    size_hw = draw(st.integers(40, 500)), draw(st.integers(40, 500))
    boxes = np.array([[0.1, 0.1, 0.6, 0.7], [0.5, 0.3, 0.95, 0.9]]) * [size_hw[1], size_hw[0], size_hw[1], size_hw[0]]
    recipe = preset("ssd").model_copy(update={"reduced_decode": False, "flip": 0.5})
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return size_hw, sample_geometry(recipe, size_hw, boxes, draw(st.sampled_from([(300, 300), (96, 160)])), rng)


@given(drawn_geometries())
@settings(max_examples=40, deadline=None)
def test_pixels_equal_the_plain_sequence(drawn):
    size_hw, geometry = drawn
    image = smooth(*size_hw)
    expected = plain_sequence.plain_pixels(image, geometry, PLAIN, FILL)
    mask = inner(geometry, size_hw)
    difference = np.abs(rendered(image, geometry).astype(int) - expected)[mask]
    assert difference.max(initial=0) <= 1


@given(drawn_geometries(), st.sampled_from(["uint8", "float"]))
@settings(max_examples=25, deadline=None)
def test_colours_may_change_after_the_resize(drawn, arithmetic):
    """The plain sequence distorts first. Distortion is not linear, but near enough within an output pixel."""
    size_hw, geometry = drawn
    image = smooth(*size_hw, sigma=6.0)
    distortion = Distortion(12.0, 1.2, False, 1.2, 20.0, (1, 2, 0), arithmetic)
    expected = plain_sequence.plain_pixels(image, geometry, distortion, FILL)
    mask = inner(geometry, size_hw)
    difference = np.abs(rendered(image, geometry, distortion=distortion).astype(int) - expected)[mask]
    assert difference.mean() < 2 if len(difference) else True


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["ssd", "ssd_pytorch", "light"])
def test_pixels_and_boxes_agree(name, mode):
    """A white block lands where its box says, whatever is drawn, at full and at reduced decoding."""
    image = np.zeros((720, 960, 3), np.uint8)
    box = np.array([[240, 160, 720, 560]], np.float32)  # multiples of 8: reduced pixels are black or white
    image[160:560, 240:720] = 255
    data = jpeg(image)
    rng = np.random.default_rng(0)
    reductions = set()
    for _ in range(25):
        geometry = sample_geometry(preset(name), (720, 960), box, (150, 150), rng)
        pixels = decode(data, (720, 960), geometry.reduction)
        reductions.add(pixels.reduction)
        moved, keep = transform_boxes(geometry, box)
        if not len(keep):
            continue
        white = render(pixels, geometry, mode, PLAIN, (0, 0, 0))[..., 1] > 127
        for axis, (low, high) in ((0, moved[0, [0, 2]]), (1, moved[0, [1, 3]])):
            lit = np.flatnonzero(white.any(axis=axis))
            # OpenCV's (and Caffe's) nearest reads at the corner of an output pixel, not at its centre.
            slack = 1.05 if mode == "nearest" else 0.55
            assert abs(lit[0] - low) <= slack
            assert abs(lit[-1] + 1 - high) <= slack
    assert 2 in reductions


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("size_hw", [(640, 800), (637, 803)])
def test_reduced_decoding_shows_the_same_picture(reduction, size_hw):
    image = smooth(*size_hw, sigma=12.0)
    step = 1.1 * reduction
    geometry = Geometry((2.0 * reduction, float(reduction)), (step, step), (50, 60), reduction)
    pixels = decode(jpeg(image), size_hw, reduction)
    assert pixels.reduction == reduction
    found = render(pixels, geometry, "linear", PLAIN, FILL).astype(int)
    full = rendered(image, geometry).astype(int)
    mask = inner(geometry, size_hw)
    # The patch lies in both; a block's mean and its middle differ where the picture bends.
    assert np.abs(found - full)[mask].mean() < 2
    assert np.abs(found - full)[mask].max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size_hw", [(160, 240), (163, 241)])
def test_turned_photos(orientation, size_hw):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = smooth(*size_hw, sigma=8.0)
    data = jpeg(stored, exif=exif)
    upright_hw = size_hw if orientation < 5 else size_hw[::-1]
    full, reduced = decode(data, upright_hw, 1), decode(data, upright_hw, 4)
    # Sides that 4 does not divide: the reduced grid of a turned image would begin with an incomplete pixel.
    assert reduced.reduction == (4 if orientation == 1 or size_hw == (160, 240) else 1)
    small = cv2.resize(full.image, reduced.image.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - reduced.image).mean() < 3


def gray_png():
    file = io.BytesIO()
    Image.fromarray(smooth(160, 240)[..., 0]).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reduction"),
    [
        (jpeg(smooth(160, 240)), 2),
        (jpeg(smooth(160, 240), progressive=True), 2),
        (gray_png(), 1),
    ],
)
def test_only_jpegs_are_reduced(data, reduction, tmp_path):
    assert decode(data, (160, 240), 2).reduction == reduction
    path = tmp_path / "image"
    path.write_bytes(data)
    pixels = decode(path, (160, 240), 2)
    assert pixels.reduction == reduction
    assert pixels.image.shape == (160 // reduction, 240 // reduction, 3)


def test_gray_and_cmyk_jpegs_keep_their_colours_reduced():
    image = smooth(160, 240, sigma=12.0)
    for mode in ("L", "CMYK"):
        file = io.BytesIO()
        Image.fromarray(image).convert(mode).save(file, "JPEG", quality=97)
        full, reduced = (decode(file.getvalue(), (160, 240), reduction) for reduction in (1, 2))
        small = cv2.resize(full.image, (120, 80), interpolation=cv2.INTER_AREA)
        assert reduced.reduction == 2
        assert np.abs(small.astype(int) - reduced.image).mean() < 2


@pytest.mark.parametrize("reduction", [1, 2])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: b"", ""),
        (lambda data: b"GIF89a" + data, ""),
        (lambda data: data[:12], ""),
    ],
)
def test_damaged_files_are_refused(spoil, words, reduction, tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(spoil(jpeg(smooth(160, 240))))
    with pytest.raises(ImageError, match=f"broken.*{words}"):
        decode(path, (160, 240), reduction)


@pytest.mark.parametrize("reduction", [1, 2])
def test_a_file_that_changed_or_vanished_is_refused(reduction, tmp_path):
    path = tmp_path / "photo.jpg"
    with pytest.raises(ImageError, match="photo"):
        decode(path, (160, 240), reduction)
    path.write_bytes(jpeg(smooth(160, 240)))
    with pytest.raises(ImageError, match=r"photo.*\(160, 240\).*\(240, 160\)"):
        decode(path, (240, 160), reduction)


def test_presets_name_known_interpolations():
    assert {mode for config in PRESETS.values() for mode in config.interpolations} == set(MODES)
