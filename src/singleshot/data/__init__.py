"""Data sets of many formats (`FORMATS`) read into one checked form. Importing this never imports torch."""

from singleshot.data.bad_records import BadData, Problem
from singleshot.data.dataset import DetectionDataset
from singleshot.data.decisions import Decisions, read_decisions, write_decisions
from singleshot.data.opening import open, splits
from singleshot.data.train_val import open_training

__all__ = [
    "BadData",
    "Decisions",
    "DetectionDataset",
    "Problem",
    "open",
    "open_training",
    "read_decisions",
    "splits",
    "write_decisions",
]
