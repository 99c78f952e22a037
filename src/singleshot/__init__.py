"""Single-shot object detectors, from the paper to production.

    import singleshot

    model = singleshot.load("coco")
    detections = model.predict("street.jpg")

Names are imported when they are first used, so ``import singleshot`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from singleshot.version import __version__

if TYPE_CHECKING:
    from singleshot.core.structures import ClassMap, HeadOutput
    from singleshot.detector import Detector, import_weights, load
    from singleshot.evaluation.evaluate import evaluate
    from singleshot.prediction.detections import Detections
    from singleshot.report.explanation import explain
    from singleshot.training.train import train

_HOMES = {
    "Detections": "singleshot.prediction.detections",
    "Detector": "singleshot.detector",
    "load": "singleshot.detector",
    "import_weights": "singleshot.detector",
    "evaluate": "singleshot.evaluation.evaluate",
    "explain": "singleshot.report.explanation",
    "train": "singleshot.training.train",
    "ClassMap": "singleshot.core.structures",
    "HeadOutput": "singleshot.core.structures",
}

__all__ = [
    "ClassMap",
    "Detections",
    "Detector",
    "HeadOutput",
    "__version__",
    "evaluate",
    "explain",
    "import_weights",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'singleshot' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
