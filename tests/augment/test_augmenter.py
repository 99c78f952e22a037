from __future__ import annotations

import cv2
import numpy as np
import pytest

from singleshot.augment.config import PRESETS
from singleshot.augment.pipeline import Augmenter
from singleshot.core.settings import PreprocessConfig
from singleshot.errors import ConfigError, ImageError
from singleshot.images.preprocess import resize_image

IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (210, 330, 3), np.uint8), (0, 0), 3)
BOXES = np.array([[10, 20, 110, 150], [200, 40, 320, 200], [150, 100, 170, 120]], np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("augmenter") / "photo.png"
    assert cv2.imwrite(str(path), IMAGE[..., ::-1])
    return path


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size_hw", [(300, 300), (160, 256)])
def test_every_preset_takes_images_without_objects(name, size_hw):
    for seed in range(5):
        image, boxes, keep = Augmenter(name, size_hw)(IMAGE, np.zeros((0, 4), np.float32), rng(seed))
        assert (image.shape, image.dtype) == ((*size_hw, 3), np.float32 if name == "ssd_pytorch" else np.uint8)
        assert (boxes.shape, keep.shape) == ((0, 4), (0,))


@pytest.mark.parametrize("name", PRESETS)
def test_equal_generators_give_equal_inputs(name):
    augmenter = Augmenter(name, (96, 96))
    for first, second in zip(augmenter(IMAGE, BOXES, rng(7)), augmenter(IMAGE, BOXES, rng(7)), strict=True):
        np.testing.assert_array_equal(first, second)


def test_seeds_matter():
    augmenter = Augmenter("ssd", (96, 96))
    assert len({augmenter(IMAGE, BOXES, rng(seed)).image.tobytes() for seed in range(8)}) == 8


@pytest.mark.parametrize("name", PRESETS)
def test_the_image_given_is_not_changed(name):
    before = IMAGE.copy()
    for seed in range(10):
        Augmenter(name, IMAGE.shape[:2])(IMAGE, BOXES, rng(seed))
    np.testing.assert_array_equal(IMAGE, before)


def test_paths_bytes_and_arrays_are_the_same_image(photo):
    augmenter = Augmenter("ssd", (96, 96))
    expected = augmenter(IMAGE, BOXES, rng(3))
    for source in (photo, str(photo), photo.read_bytes()):
        for image_hw in (None, (210, 330)):
            found = augmenter(source, BOXES, rng(3), image_hw)
            for first, second in zip(found, expected, strict=True):
                np.testing.assert_array_equal(first, second)


def test_none_is_the_resize_of_prediction(photo):
    image, boxes, keep = Augmenter("none", (300, 300))(photo, BOXES, rng())
    np.testing.assert_array_equal(image, resize_image(IMAGE, PreprocessConfig(size_hw=(300, 300))))
    np.testing.assert_allclose(boxes, BOXES * np.array([300 / 330, 300 / 210] * 2), rtol=1e-6)
    np.testing.assert_array_equal(keep, [0, 1, 2])


def test_a_mapping_is_a_recipe():
    mirrored = Augmenter({"mirror": 1.0}, (100, 100))(IMAGE, BOXES, rng())
    plain = Augmenter("none", (100, 100))(IMAGE, BOXES, rng())
    np.testing.assert_array_equal(mirrored.image, plain.image[:, ::-1])
    np.testing.assert_allclose(mirrored.boxes_xyxy[:, [2, 0]], 100 - plain.boxes_xyxy[:, [0, 2]], atol=1e-4)


def test_interpolations_are_drawn_evenly():
    """On a checkerboard every interpolation gives its own image."""
    board = np.indices((64, 64)).sum(axis=0) % 2
    image = (board[..., None] * np.array([255, 255, 255])).astype(np.uint8)
    augmenter = Augmenter({"interpolations": ["linear", "area", "nearest", "cubic", "lanczos4"]}, (41, 41))
    shares = {}
    for seed in range(600):
        key = augmenter(image, np.zeros((0, 4)), rng(seed)).image.tobytes()
        shares[key] = shares.get(key, 0) + 1 / 600
    assert len(shares) == 5
    assert min(shares.values()) > 0.13
    assert max(shares.values()) < 0.27


def test_mistakes():
    with pytest.raises(ConfigError, match="sdd"):
        Augmenter("sdd", (300, 300))
    with pytest.raises(ImageError, match="uint8"):
        Augmenter("ssd", (300, 300))(IMAGE.astype(np.float32), BOXES, rng())


@pytest.mark.parametrize("shape", [(1, 1), (40, 60)])
def test_unlimited_colours_reach_the_training_input(shape):
    """Every input is float32, distorted or not, and some lie outside 0 to 255; the fill keeps its colour."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    augmenter, rng = Augmenter("ssd_pytorch", (32, 32)), np.random.default_rng(1)
    inputs = [augmenter(image, np.zeros((0, 4), np.float32), rng).image for _ in range(30)]
    assert {(picture.dtype, picture.shape) for picture in inputs} == {(np.dtype(np.float32), (32, 32, 3))}
    assert max(picture.max() for picture in inputs) > 256
    assert any((picture == augmenter.config.fill_rgb).all(axis=-1).any() for picture in inputs)
