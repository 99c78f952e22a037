"""Which images a run learns from, and which it is measured on."""

from __future__ import annotations

from singleshot.data import DetectionDataset
from singleshot.data.parts import open_training
from singleshot.engine.config import DataConfig


def open_splits(config: DataConfig) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Open the training images, and those to measure on where there are some; their ``notes`` say what was decided.

    Raises:
        DataError: as `singleshot.data.parts.open_training`.
    """
    return open_training(config.path, config.train, config.val, config.format, config.bad_data)
