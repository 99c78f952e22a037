"""Which images a run learns from, and which it is measured on."""

from __future__ import annotations

from singleshot.data import DetectionDataset
from singleshot.data.train_val import open_training
from singleshot.training.config import DataConfig


def open_splits(config: DataConfig) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Open the training images, and those to measure on where there are some; their ``notes`` say what was decided.

    Raises:
        DataError: as `singleshot.data.train_val.open_training`.
    """
    return open_training(config.path, config.train, config.val, config.format, config.bad_data)
