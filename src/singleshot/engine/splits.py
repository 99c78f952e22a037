"""Which images a run learns from, and which it is measured on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import MappingProxyType

from singleshot import data as datasets
from singleshot.data import DetectionDataset
from singleshot.data.splitting import assign_splits
from singleshot.engine.config import DataConfig
from singleshot.errors import DataError

# Names under which data sets keep what a detector learns from, and what it is measured on, best first.
TRAIN_NAMES = ("train", "training", "trainval", "train2017")
HELD_OUT = MappingProxyType({"train": 0.9, "val": 0.1})
VAL_NAMES = ("val", "valid", "validation", "dev", "val2017", "test", "testing")


def open_splits(config: DataConfig) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Open the training images, and the held-out ones unless ``val`` is ``none``.

    A data set with splits of its own keeps them. Where nothing is held out, a tenth of the training images is, by a
    hash of their names.

    Raises:
        DataError: the data cannot be read, has no such split, or the two share images.
    """
    path = Path(config.path)
    known = datasets.splits(path)
    train_name = _choose(config.train, TRAIN_NAMES, known)
    train_set = datasets.open(path, train_name, bad_data=config.bad_data)
    if config.val == "none":
        return train_set, None
    val_name = _choose(config.val, tuple(name for name in VAL_NAMES if name != train_name), known)
    if val_name is None:
        return _hold_out(train_set)
    val_set = datasets.open(path, val_name, bad_data=config.bad_data, classes=train_set.class_map.names)
    _refuse_overlap(train_set, val_set)
    return train_set, val_set


def _choose(wanted: str, names: tuple[str, ...], known: tuple[str, ...]) -> str | None:
    """The split asked for, or the first that the data set has (in a devkit, of any year); none is ours to divide."""
    if wanted != "auto":
        return wanted
    if not known:
        return names[0]
    return next((n for n in names if any(own == n or own.endswith(f"_{n}") for own in known)), None)


def _hold_out(whole: DetectionDataset) -> tuple[DetectionDataset, DetectionDataset]:
    places = assign_splits([sample.image_path.name for sample in whole], HELD_OUT)
    train_set, val_set = (
        dataclasses.replace(whole.subset([i for i, place in enumerate(places) if place == name]), split=name)
        for name in HELD_OUT
    )
    if not len(val_set):
        raise DataError(f"{whole.path} has too few images to hold some out: name a split with --val, or --val none")
    return train_set, val_set


def _refuse_overlap(train_set: DetectionDataset, val_set: DetectionDataset) -> None:
    """Numbers on images that were learnt are worth nothing."""
    shared = {sample.image_path for sample in train_set} & {sample.image_path for sample in val_set}
    if shared:
        raise DataError(
            f"{train_set.path}: splits '{train_set.split}' and '{val_set.split}' share {len(shared)} images, such as "
            f"{min(shared).name}: choose others with --train and --val"
        )
