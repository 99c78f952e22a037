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
    from singleshot.detections import Detections
    from singleshot.detector import Detector, import_weights, load
    from singleshot.engine.evaluate import evaluate
    from singleshot.engine.train import train
    from singleshot.structures import ClassMap, HeadOutput

_HOMES = {
    "Detections": "singleshot.detections",
    "Detector": "singleshot.detector",
    "load": "singleshot.detector",
    "import_weights": "singleshot.detector",
    "evaluate": "singleshot.engine.evaluate",
    "train": "singleshot.engine.train",
    "ClassMap": "singleshot.structures",
    "HeadOutput": "singleshot.structures",
}

__all__ = [
    "ClassMap",
    "Detections",
    "Detector",
    "HeadOutput",
    "__version__",
    "evaluate",
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
