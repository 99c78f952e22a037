"""Data sets of many formats (`FORMATS`) read into one checked form. Importing this never imports torch."""

from typing import TYPE_CHECKING, Any

from singleshot.core.lazy import require_torch
from singleshot.data.bad_records import BadData, Problem
from singleshot.data.dataset import DetectionDataset
from singleshot.data.decisions import Decisions, read_decisions, write_decisions
from singleshot.data.opening import open, splits
from singleshot.data.train_val import open_training

if TYPE_CHECKING:
    from singleshot.data.streaming import stream

__all__ = [
    "BadData",
    "Decisions",
    "DetectionDataset",
    "Problem",
    "open",
    "open_training",
    "read_decisions",
    "splits",
    "stream",
    "write_decisions",
]


def __getattr__(name: str) -> Any:
    if name == "stream":  # needs torch
        require_torch("a stream of training images")
        from singleshot.data.streaming import stream

        return stream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
