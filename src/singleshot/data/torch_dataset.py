"""A data set for a training loop of one's own: preprocessed images and their objects as torch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from singleshot.core.lazy import lazy_module
from singleshot.core.settings import PreprocessConfig
from singleshot.core.structures import Batch, ClassMap
from singleshot.core.transforms import Labelled, OwnStep, Transform, apply, step
from singleshot.images.preprocess import preprocess_image
from singleshot.images.read import read_image

if TYPE_CHECKING:
    from singleshot.data import dataset
else:
    dataset = lazy_module("singleshot.data.dataset")


class ImageTargets(NamedTuple):
    """The objects of one image.

    Attributes:
        boxes_xyxy: in pixels of the network input, ``[N, 4]`` float32.
        class_ids: 0..C-1, ``[N]`` int64.
        image_index: position of the image in its data set.
    """

    boxes_xyxy: Tensor
    class_ids: Tensor
    image_index: int


class TorchDataset(Dataset[tuple[Tensor, ImageTargets]]):
    """Preprocessed images ``[3, H, W]`` float32 and their `ImageTargets`, for ``torch.utils.data.DataLoader``.

    ``DataLoader(photos, batch_size=8, shuffle=True, collate_fn=photos.collate)`` gives `Batch` tuples. Crowd regions
    are left out: nothing learns from them.

    Args:
        samples: the labelled images.
        transform: a step of one's own on each image as it was read, ``(image, boxes_xyxy, class_ids)`` to the same
            three, or with a ``np.random.Generator`` as a fourth argument; it may change the image's size.
        preprocess: the network's rules, such as ``spec.preprocess``.
        use_difficult: keep objects marked difficult.

    Attributes:
        samples: as given.

    Raises:
        ConfigError: the transform cannot be called.
    """

    def __init__(
        self,
        samples: dataset.DetectionDataset,
        transform: Transform | None = None,
        preprocess: PreprocessConfig | None = None,
        *,
        use_difficult: bool = True,
    ) -> None:
        self.samples = samples
        self._step = None if transform is None else step(transform)
        self._preprocess = preprocess or PreprocessConfig(size_hw=(300, 300))
        self._use_difficult = use_difficult

    @property
    def class_map(self) -> ClassMap:
        """The classes 0..C-1."""
        return self.samples.class_map

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, ImageTargets]:
        sample = self.samples[index]
        usable = ~sample.iscrowd if self._use_difficult else ~(sample.iscrowd | sample.difficult)
        image = read_image(sample.image_path)
        labelled = Labelled(image, sample.boxes_xyxy[usable].astype(np.float32), sample.class_ids[usable])
        # torch seeds its generator in each process that loads images, and anew in each epoch.
        rng = np.random.default_rng(int(torch.randint(2**62, (1,)))) if self._step else np.random.default_rng(0)
        classes, where = len(self.class_map), sample.image_path
        return network_item(labelled, index, self._step, rng, self._preprocess, classes, where)

    @staticmethod
    def collate(items: Sequence[tuple[Tensor, ImageTargets]]) -> Batch:
        """Images side by side, objects padded to the longest list; see `Batch`."""
        targets = [target for _, target in items]
        boxes = pad_sequence([target.boxes_xyxy for target in targets], batch_first=True)
        class_ids = pad_sequence([target.class_ids for target in targets], batch_first=True, padding_value=-1)
        indices = torch.tensor([target.image_index for target in targets])
        return Batch(torch.stack([image for image, _ in items]), boxes, class_ids, class_ids >= 0, indices)


def network_item(
    labelled: Labelled,
    index: int,
    own_step: OwnStep | None,
    rng: np.random.Generator,
    preprocess: PreprocessConfig,
    classes: int,
    where: str | Path,
) -> tuple[Tensor, ImageTargets]:
    """An image as the network takes it, and its objects in pixels of that.

    Args:
        labelled: as it was read.
        index: its position in its data set.
        own_step: a step of the user's.
        rng: for that step.
        preprocess: the network's rules.
        classes: their number, which checks what the step gives back.
        where: names the image in errors.
    """
    if own_step:
        labelled = apply(own_step, labelled, rng, classes, where)
    height, width = labelled.image.shape[:2]
    rows, columns = preprocess.size_hw
    scale = np.array([columns / width, rows / height] * 2, np.float32)
    boxes, ids = torch.from_numpy(labelled.boxes_xyxy * scale), torch.from_numpy(labelled.class_ids)
    return torch.from_numpy(preprocess_image(labelled.image, preprocess)), ImageTargets(boxes, ids, index)
