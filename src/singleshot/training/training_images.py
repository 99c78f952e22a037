"""Training images: read, changed at random, checked, and stacked into a batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from singleshot.augment.pipeline import Augmenter
from singleshot.core.structures import Batch, Sample
from singleshot.core.transforms import Labelled, TransformError
from singleshot.errors import ImageError
from singleshot.images.packed import image_bytes, image_stamp
from singleshot.images.read import read_image
from singleshot.training.loader_config import LoaderConfig
from singleshot.training.sampler import CHANGES, REPLACEMENT

# So many images in a row without a readable one is a broken disk or path, not a bad image.
MAX_REPLACEMENTS = 16


@dataclass(frozen=True, slots=True)
class Skipped:
    """An image that could not be used: its position in the data set, why, and whether the run cannot go on for it."""

    index: int
    reason: str
    ends_run: bool = False


def _named(error: ImageError, sample: Sample) -> str:
    """Why an image was skipped; errors of cached bytes know no file."""
    path = str(sample.image_path)
    return str(error) if path in str(error) else f"{path}: {error}"


def learns(sample: Sample, config: LoaderConfig) -> bool:
    """Whether an object of a sample can train."""
    return bool(_trainable(sample, config).any())


def _trainable(sample: Sample, config: LoaderConfig) -> NDArray[np.bool_]:
    usable: NDArray[np.bool_] = ~sample.iscrowd
    return usable if config.use_difficult else usable & ~sample.difficult


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a batch before collation, ``[H, W, 3]``, with its objects as in `Batch`."""

    image: NDArray[np.uint8] | NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    valid: NDArray[np.bool_]
    index: int


Fetched = tuple[Item | None, list[Skipped]]
"""An image, ``None`` when too many in a row were bad, and the bad ones. (An error in a worker would arrive with the
worker's traceback around it.)
"""


Collated = tuple[Batch | None, list[Skipped]]


class TrainingImages(Dataset[Fetched]):
    """Reads and augments; an unreadable image is replaced by another and reported."""

    def __init__(
        self, samples: Sequence[Sample], indices: NDArray[np.int64], augmenter: Augmenter, config: LoaderConfig
    ) -> None:
        self._samples = samples
        self._indices = indices
        self._augmenter = augmenter
        self._config = config
        self._encoded = read_encoded(samples, indices, config.cache_bytes)

    def __getitem__(self, key: tuple[int, int]) -> Fetched:
        position, index = key
        replacements = np.random.default_rng([self._config.seed, REPLACEMENT, position])
        skipped: list[Skipped] = []
        while len(skipped) < MAX_REPLACEMENTS:
            try:
                return self._item(position, index), skipped
            except TransformError as error:
                return None, [Skipped(index, str(error), ends_run=True)]
            except ImageError as error:
                skipped.append(Skipped(index, _named(error, self._samples[index])))
                index = int(replacements.choice(self._indices))
        return None, skipped

    def _item(self, position: int, index: int) -> Item:
        sample = self._samples[index]
        rng = np.random.default_rng([self._config.seed, CHANGES, position])
        file = self._encoded.get(index, sample.image_path)
        source = file if sample.part_xyxy is None else _part(file, sample.part_xyxy)
        image, boxes, keep = self._augmenter(source, sample.boxes_xyxy, rng, sample.image_size_hw)
        valid, class_ids = _trainable(sample, self._config)[keep], sample.class_ids[keep]
        if self._augmenter.has_own_steps:
            labelled = Labelled(image, boxes[valid], class_ids[valid])
            image, boxes, class_ids = self._augmenter.own_steps(labelled, rng, self._config.classes, sample.image_path)
            valid = np.ones(len(class_ids), bool)
        return Item(image, boxes, class_ids, valid, index)


def _part(source: Path | bytes, part_xyxy: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Pixels of a part of an image, which is decoded as a whole: few decoders can do less."""
    x0, y0, x1, y1 = part_xyxy
    image = read_image(source)
    if image.shape[0] < y1 or image.shape[1] < x1:
        raise ImageError(f"{image.shape[1]} x {image.shape[0]} pixels, fewer than in the data set: read that again")
    return image[y0:y1, x0:x1]


def collate(fetched: Sequence[Fetched]) -> tuple[Batch | None, list[Skipped]]:
    """Stack images, pad objects. The images' memory stays ``[B, H, W, 3]`` (channels last): nothing is transposed."""
    skipped = [image for _, bad in fetched for image in bad]
    items = [item for item, _ in fetched if item]
    if len(items) < len(fetched):
        return None, skipped
    counts = np.array([len(item.class_ids) for item in items], dtype=np.int64)
    rows = np.repeat(np.arange(len(items)), counts)
    columns = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    shape = (len(items), int(counts.max(initial=0)))
    boxes, class_ids = np.zeros((*shape, 4), np.float32), np.full(shape, -1, np.int64)
    valid = np.zeros(shape, bool)
    if len(rows):
        boxes[rows, columns] = np.concatenate([item.boxes_xyxy for item in items])
        class_ids[rows, columns] = np.concatenate([item.class_ids for item in items])
        valid[rows, columns] = np.concatenate([item.valid for item in items])
    images = np.stack([item.image for item in items])
    tensors = (images, boxes, class_ids, valid, np.array([item.index for item in items], dtype=np.int64))
    batch = Batch(*map(torch.from_numpy, tensors))
    return batch._replace(images=batch.images.permute(0, 3, 1, 2)), skipped


def read_encoded(samples: Sequence[Sample], indices: NDArray[np.int64], limit_bytes: int) -> dict[int, bytes]:
    """Files of the first images that fit into ``limit_bytes`` together, by position; unreadable ones are left out.

    Processes that fork share this memory.
    """
    encoded: dict[int, bytes] = {}
    left = limit_bytes
    for index in indices.tolist() if limit_bytes else ():
        with suppress(OSError):
            path = samples[index].image_path
            size = image_stamp(path).size
            if size > left:
                break
            encoded[index] = image_bytes(path)
            left -= size
    return encoded
