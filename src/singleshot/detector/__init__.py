"""`Detector`: a description, its numbers, and everything to use them. `load` gives one."""

from singleshot.detector.detector import Detector
from singleshot.detector.how import BATCH_SIZE
from singleshot.detector.loading import import_weights, load

__all__ = ["BATCH_SIZE", "Detector", "import_weights", "load"]
