"""Data sets for a loop of one's own: preprocessed tensors, objects in their pixels, collation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from singleshot import data
from singleshot.core.settings import PreprocessConfig
from singleshot.core.transforms import TransformError
from singleshot.data.torch_dataset import ImageTargets, TorchDataset
from singleshot.demo.scenes import make_scenes
from singleshot.errors import ConfigError
from singleshot.images.preprocess import preprocess_image
from singleshot.images.read import read_image


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes", count=8, size_hw=(40, 50))


def same(image, boxes_xyxy, class_ids):
    return image, boxes_xyxy, class_ids


def test_collation_of_images_without_objects() -> None:
    nothing = ImageTargets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 3)
    batch = TorchDataset.collate([(torch.zeros(3, 2, 2), nothing)] * 2)
    assert (batch.boxes_xyxy.shape, batch.valid.shape, batch.indices.tolist()) == ((2, 0, 4), (2, 0), [3, 3])


def test_an_item_is_the_networks_input_and_the_objects_in_its_pixels(scenes: Path) -> None:
    photos = data.open(scenes, "trainval", transform=same, size=(80, 25))
    samples = data.open(scenes, "trainval")
    assert isinstance(photos, TorchDataset)
    assert len(photos) == len(samples)
    image, targets = photos[1]
    expected = preprocess_image(read_image(samples[1].image_path), PreprocessConfig(size_hw=(80, 25)))
    np.testing.assert_array_equal(image.numpy(), expected)
    np.testing.assert_allclose(targets.boxes_xyxy, samples[1].boxes_xyxy * [0.5, 2, 0.5, 2], rtol=1e-6)
    assert targets.class_ids.tolist() == samples[1].class_ids.tolist()


def test_a_transform_changes_image_and_objects(scenes: Path) -> None:
    def left_half(image, boxes_xyxy, class_ids):
        boxes = boxes_xyxy.clip(max=[25, 40, 25, 40])
        keep = boxes[:, 2] > boxes[:, 0] + 1
        return np.ascontiguousarray(image[:, :25]), boxes[keep], class_ids[keep]

    photos = data.open(scenes, "trainval").torch(left_half, preprocess=PreprocessConfig(size_hw=(40, 25)))
    for image, targets in photos:
        assert image.shape == (3, 40, 25)
        assert len(targets.boxes_xyxy) == len(targets.class_ids)
        assert targets.boxes_xyxy[:, 2].max() <= 25 if len(targets.class_ids) else True


def test_batches_are_padded(scenes: Path) -> None:
    photos = data.open(scenes, "trainval").torch(transform=same, size=32)
    batch = next(iter(DataLoader(photos, batch_size=4, collate_fn=photos.collate)))
    counts = [len(photos[index][1].class_ids) for index in range(4)]
    assert batch.images.shape == (4, 3, 32, 32)
    assert batch.valid.sum(dim=1).tolist() == counts
    assert batch.boxes_xyxy.shape == (4, max(counts), 4)
    assert bool((batch.class_ids[~batch.valid] == -1).all())


def test_randomness_follows_torchs_seed(scenes: Path) -> None:
    def noise(image, boxes_xyxy, class_ids, rng):
        return rng.integers(0, 256, image.shape, np.uint8), boxes_xyxy, class_ids

    photos = data.open(scenes).torch(transform=noise, size=16)
    torch.manual_seed(1)
    first, second = photos[0][0], photos[0][0]
    torch.manual_seed(1)
    assert torch.equal(photos[0][0], first)
    assert not torch.equal(first, second)


def test_a_failing_transform_names_itself_and_the_image(scenes: Path) -> None:
    def halves(image, boxes_xyxy, class_ids):
        return image / 2, boxes_xyxy, class_ids

    with pytest.raises(TransformError, match=r"halves.*must stay uint8, not float64.*\.(jpg|png)"):
        data.open(scenes).torch(transform=halves, size=16)[0]


def test_one_place_says_the_size(scenes: Path) -> None:
    with pytest.raises(ConfigError, match="`size` and `preprocess`"):
        data.open(scenes, transform=same, size=16, preprocess=PreprocessConfig(size_hw=(16, 16)))
