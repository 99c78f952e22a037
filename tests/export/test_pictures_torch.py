"""Resize and normalisation as torch operations give what `preprocess_image` gives: OpenCV's, TensorFlow's, Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from singleshot.core.settings import PreprocessConfig
from singleshot.export.pictures_torch import preprocess_pictures
from singleshot.images.preprocess import preprocess_image

SIZES = ((1, 1), (64, 48), (33, 20), (40, 300), (128, 96), (97, 61))


@pytest.mark.parametrize("resize", ["linear", "linear_float", "linear_legacy", "linear_antialias"])
@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_equals_preprocess_image(resize: str, size_hw: tuple[int, int]) -> None:
    config = PreprocessConfig(
        size_hw=(64, 48), resize=resize, scale=1 / 127.5, mean=(1, 0.9, 0.8), std=(0.5, 1, 2), channel_order="bgr"
    )
    pictures = np.random.default_rng(0).integers(0, 256, (2, *size_hw, 3), dtype=np.uint8)
    found = preprocess_pictures(torch.from_numpy(pictures).permute(0, 3, 1, 2), config, any_size=True)
    expected = np.stack([preprocess_image(picture, config) for picture in pictures])
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


def test_of_the_inputs_size_nothing_is_resized() -> None:
    pictures = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    found = preprocess_pictures(pictures, PreprocessConfig(size_hw=(4, 5), mean=(0, 0, 0)), any_size=False)
    assert torch.equal(found, pictures.float())
