"""Which images a run learns from, and which it is measured on."""

from __future__ import annotations

from pathlib import Path

from singleshot import data as datasets
from singleshot.data import DetectionDataset
from singleshot.engine.config import DataConfig
from singleshot.errors import DataError

# Names under which data sets keep what a detector learns from, and what it is measured on, best first.
TRAIN_NAMES = ("train", "training", "trainval", "train2017")
VAL_NAMES = ("val", "valid", "validation", "dev", "val2017", "test", "testing")


def open_splits(config: DataConfig) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Open the training images, and the held-out ones unless ``val`` is ``none``.

    A data set with splits of its own keeps them. One without is divided by its images' names, 80 % to learn from.

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
        raise DataError(
            f"{path} has no split to evaluate on: it has {', '.join(known)}. Name one with --val, or use --val none"
        )
    classes = train_set.class_map.names
    val_set = datasets.open(path, val_name, bad_data=config.bad_data, classes=classes)
    _refuse_overlap(train_set, val_set)
    return train_set, val_set


def _choose(wanted: str, names: tuple[str, ...], known: tuple[str, ...]) -> str | None:
    """The split asked for, or the first that the data set has; its own names win over our way to divide it."""
    if wanted != "auto":
        return wanted
    if not known:
        return names[0]
    return next((name for name in names if name in known), None)


def _refuse_overlap(train_set: DetectionDataset, val_set: DetectionDataset) -> None:
    """Numbers on images that were learnt are worth nothing."""
    shared = {sample.image_path for sample in train_set} & {sample.image_path for sample in val_set}
    if shared:
        raise DataError(
            f"{train_set.path}: splits '{train_set.split}' and '{val_set.split}' share {len(shared)} images, such as "
            f"{min(shared).name}: choose others with --train and --val"
        )
