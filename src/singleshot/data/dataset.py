"""One checked set of labelled images, and its parts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from singleshot.core.lazy import lazy_module
from singleshot.core.settings import PreprocessConfig
from singleshot.core.sizes import parse_size
from singleshot.core.structures import ClassMap, Sample
from singleshot.core.transforms import Transform
from singleshot.data.bad_records import BadData, Problem
from singleshot.data.sample_table import count_objects, image_paths, take_samples
from singleshot.data.splitting import PARTS, assign_splits
from singleshot.errors import ConfigError

if TYPE_CHECKING:
    from singleshot.data import torch_dataset
else:
    torch_dataset = lazy_module("singleshot.data.torch_dataset")


@dataclass(frozen=True)
class DetectionDataset:
    """Labelled images.

    Attributes:
        path: what was opened.
        samples: one entry for each usable image; pixels are not loaded.
        class_map: the classes 0..C-1, equal for all splits of the data set.
        split: the split, ``None`` for everything.
        splits: splits that the files define, or ``train``, ``val``, ``test`` of `assign_splits` where they define none.
        format: a name of ``FORMATS``: ``voc``, ``coco``, ``rec`` ..., or another package's.
        problems: every record that was noted, repaired or skipped.
        bad_data: the policy it was opened with.
        unlabelled: images that the split lists and no label file speaks of: not among ``samples``, but an unlabelled
            test split has nothing else. Nobody has looked whether they are there.
        notes: what was decided without being asked, a sentence each: how a heap of images was divided ...
        dropped: images that decisions leave out.
    """

    path: Path
    samples: Sequence[Sample]
    class_map: ClassMap
    split: str | None
    splits: tuple[str, ...]
    format: str
    problems: tuple[Problem, ...] = ()
    bad_data: BadData = "skip"
    notes: tuple[str, ...] = ()
    unlabelled: tuple[Path, ...] = ()
    dropped: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def subset(self, indices: Sequence[int]) -> DetectionDataset:
        """The same data set with only the samples at ``indices``, in their order."""
        return dataclasses.replace(self, samples=take_samples(self.samples, indices))

    def without_empty(self) -> DetectionDataset:
        """The same data set without images that have no objects."""
        return self.subset(np.flatnonzero(count_objects(self.samples)).tolist())

    def torch(
        self,
        transform: Transform | None = None,
        size: int | str | Sequence[int] | None = None,
        preprocess: PreprocessConfig | None = None,
        *,
        use_difficult: bool = True,
    ) -> torch_dataset.TorchDataset:
        """The same images preprocessed, with their objects, for a training loop of one's own.

        Args:
            transform: a step of one's own on each image as it was read: ``(image, boxes_xyxy, class_ids)`` to the same
                three, or with a ``np.random.Generator`` as a fourth argument.
            size: network input: 300 (the default), ``"HEIGHTxWIDTH"`` or (height, width).
            preprocess: a detector's rules in place of SSD's (mean 123, 117, 104): ``spec.preprocess``.
            use_difficult: keep objects marked difficult.

        Raises:
            ConfigError: the transform cannot be called, or a size is given besides a detector's rules.
        """
        if size is not None and preprocess is not None:
            raise ConfigError("`size` and `preprocess` both say how large images become; keep one of them")
        if preprocess is None:
            preprocess = PreprocessConfig(size_hw=parse_size(300 if size is None else size))
        return torch_dataset.TorchDataset(self, transform, preprocess, use_difficult=use_difficult)


def divide(dataset: DetectionDataset, parts: Sequence[str], own: Sequence[str]) -> DetectionDataset:
    """The images of some parts of `assign_splits`; with splits of its own a data set has no part ``test``.

    Args:
        dataset: everything, or the training split.
        parts: of ``train``, ``val``, ``test``.
        own: the splits that the files define.
    """
    paths = [*image_paths(dataset.samples), *map(str, dataset.dropped)]  # no decision moves other images
    places = assign_splits(paths, test=not own)[: len(dataset)]
    counts = Counter(places)
    shown = ", ".join(f"{name} {counts[name]}" for name in PARTS if name != "test" or not own)
    what = f"'{dataset.split}' has no part to measure on" if own else "the data set has no splits of its own"
    its = "its one image is" if len(places) == 1 else f"its {len(places):,} images are"
    note = f"{what}: {its} divided by the names ({shown})"
    chosen = dataset.subset([index for index, place in enumerate(places) if place in parts])
    return dataclasses.replace(chosen, split="+".join(parts), notes=(*dataset.notes, note))


def check_open(**given: object) -> None:
    """Refuse arguments that say how a path is opened, where a data set that is open is given: they would do nothing.

    Args:
        given: each by its name; what is ``None``, ``False`` or ``"auto"`` was not given.

    Raises:
        ConfigError: one was given.
    """
    for name, value in given.items():
        if value is not None and value is not False and value != "auto":
            raise ConfigError(
                f"`{name}` says how data at a path is opened, and this data set is open: pass it to "
                f"data.open(path, {name}=...) instead"
            )
