"""Single-shot object detectors, from the paper to production.

    import singleshot

    model = singleshot.load("coco")
    detections = model.predict("street.jpg")

Verbs: `load`, `train`, `evaluate`, `benchmark`, `quantize`, `import_weights`, `explain`, `examine`,
`compare_anchors`.
What they take and give: `Detector`, `Predictor`, `Detections`, `Detection`, `Prediction`, `Failure`, `EvalResult`,
`TrainResult`, `ClassMap`, `HeadOutput`, and the data sets of `singleshot.data`.
Mistakes of a user are a `SingleshotError`: `ConfigError`, `DataError`, `ImageError`, `WeightsError`, `OutputError`,
`ServerError`, `MissingExtraError`.

Names are imported when they are first used, so ``import singleshot`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from singleshot.version import __version__

if TYPE_CHECKING:
    from singleshot import data
    from singleshot.core.structures import ClassMap, HeadOutput
    from singleshot.detector import Detector, import_weights, load
    from singleshot.doctor.examine import examine
    from singleshot.errors import (
        ConfigError,
        DataError,
        ImageError,
        MissingExtraError,
        OutputError,
        ServerError,
        SingleshotError,
        WeightsError,
    )
    from singleshot.evaluation.evaluate import evaluate
    from singleshot.evaluation.result import EvalResult
    from singleshot.evaluation.speed import benchmark
    from singleshot.prediction.detections import Detection, Detections
    from singleshot.prediction.frames import Failure, Prediction
    from singleshot.prediction.pipeline import Predictor
    from singleshot.prediction.quantize import quantize
    from singleshot.report.explanation import explain
    from singleshot.training.anchor_comparison import compare_anchors
    from singleshot.training.result import TrainResult
    from singleshot.training.train import train

_NAMES = {
    "core.structures": ("ClassMap", "HeadOutput"),
    "detector": ("Detector", "import_weights", "load"),
    "doctor.examine": ("examine",),
    "errors": (
        *("ConfigError", "DataError", "ImageError", "MissingExtraError", "OutputError", "SingleshotError"),
        *("ServerError", "WeightsError"),
    ),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.result": ("EvalResult",),
    "evaluation.speed": ("benchmark",),
    "prediction.detections": ("Detection", "Detections"),
    "prediction.frames": ("Failure", "Prediction"),
    "prediction.pipeline": ("Predictor",),
    "prediction.quantize": ("quantize",),
    "report.explanation": ("explain",),
    "training.anchor_comparison": ("compare_anchors",),
    "training.result": ("TrainResult",),
    "training.train": ("train",),
}
_HOMES = {name: f"singleshot.{module}" for module, names in _NAMES.items() for name in names}

__all__ = [
    "ClassMap",
    "ConfigError",
    "DataError",
    "Detection",
    "Detections",
    "Detector",
    "EvalResult",
    "Failure",
    "HeadOutput",
    "ImageError",
    "MissingExtraError",
    "OutputError",
    "Prediction",
    "Predictor",
    "ServerError",
    "SingleshotError",
    "TrainResult",
    "WeightsError",
    "__version__",
    "benchmark",
    "compare_anchors",
    "data",
    "evaluate",
    "examine",
    "explain",
    "import_weights",
    "load",
    "quantize",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "data":
        return import_module("singleshot.data")
    if name in _HOMES:
        try:
            return getattr(import_module(_HOMES[name]), name)
        except ModuleNotFoundError as error:
            from singleshot.core.lazy import torch_error

            raise torch_error(error, f"singleshot.{name}") or error from None
    raise AttributeError(f"module 'singleshot' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
