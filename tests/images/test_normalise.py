"""``(pixel * scale - mean) / std``: all forms on the same cases, against the formula in float64."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
import torch

from singleshot.core.settings import PreprocessConfig
from singleshot.images.normalise import ImageNormalizer
from singleshot.images.preprocess import preprocess_image
from singleshot.kernels import resize as kernel

NOISE = np.random.default_rng(0).integers(0, 256, (33, 64, 3), dtype=np.uint8)

IMAGES = {
    "one black pixel": np.zeros((1, 1, 3), np.uint8),
    "one white pixel": np.full((1, 1, 3), 255, np.uint8),
    "all grey values": np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2),
    "extremes": np.where(NOISE > 127, 255, 0).astype(np.uint8),
    "noise": NOISE,
    "noise, one row": NOISE[:1],
    "noise, odd sides": NOISE[:7, :5],
}
NUMBERS = {
    "as it is": {"mean": (0.0, 0.0, 0.0)},
    "mean only": {"mean": (123.0, 117.0, 104.0)},
    "scale and mean": {"scale": 2 / 255, "mean": (1.0, 1.0, 1.0)},
    "scale, mean and std": {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "std of one channel": {"mean": (1.0, 2.0, 3.0), "std": (1.0, 0.2, 58.395)},
}


def in_numpy(image: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    with patch.object(kernel, "_library", return_value=None):
        return preprocess_image(image, config)


def in_c(image: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    if not kernel.has_kernel():
        pytest.skip("no C compiler here")
    return preprocess_image(image, config)


def floats_of(form: Callable[[np.ndarray, PreprocessConfig], np.ndarray]) -> Callable[..., np.ndarray]:
    """The path of resizes that do not round to bytes."""
    return lambda image, config: form(image, config.model_copy(update={"resize": "linear_float"}))


def on_device(dtype: torch.dtype, channels_last: bool) -> Callable[[np.ndarray, PreprocessConfig], np.ndarray]:
    def run(image: np.ndarray, config: PreprocessConfig) -> np.ndarray:
        batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].repeat(2, 1, 1, 1).to(dtype)
        found = ImageNormalizer(config, torch.device("cpu"), channels_last)(batch)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        assert found.is_contiguous(memory_format=layout)
        assert torch.equal(found[0], found[1])
        return found[0].numpy()

    return run


FORMS = {
    "NumPy, bytes": in_numpy,
    "NumPy, floats": floats_of(in_numpy),
    "C, bytes": in_c,
    "C, floats": floats_of(in_c),
    "device, bytes": on_device(torch.uint8, channels_last=False),
    "device, floats": on_device(torch.float32, channels_last=False),
    "device, bytes, channels last": on_device(torch.uint8, channels_last=True),
    "device, floats, channels last": on_device(torch.float32, channels_last=True),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("name", IMAGES)
def test_every_form_is_the_formula(name: str, numbers: str, order: str, form: str) -> None:
    image = IMAGES[name]
    config = PreprocessConfig(size_hw=image.shape[:2], channel_order=order, **NUMBERS[numbers])
    planes = (image if order == "rgb" else image[..., ::-1]).transpose(2, 0, 1).astype(np.float64)
    mean, std = (np.array(three).reshape(3, 1, 1) for three in (config.mean, config.std))
    expected = (planes * config.scale - mean) / std
    found = FORMS[form](image, config)
    assert found.dtype == np.float32
    assert found.shape == (3, *image.shape[:2])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2e-6 * max(1, np.abs(mean / std).max()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("order", "expected"), [("rgb", [12.0, 2.0, -0.375]), ("bgr", [-0.5, 2.0, 2.75])])
def test_literally(order: str, expected: list[float], form: str) -> None:
    """An orange pixel; mean and std are in the network's order."""
    config = PreprocessConfig(size_hw=(1, 1), channel_order=order, scale=0.1, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    image = np.array([[[250, 100, 0]]], dtype=np.uint8)
    np.testing.assert_allclose(FORMS[form](image, config).reshape(3), expected, rtol=1e-6)
