"""The settings of a prediction, checked: each mistake is a `ConfigError` that names the setting."""

from __future__ import annotations

import math
import operator
from typing import Any

from singleshot.core.settings import PostprocessConfig
from singleshot.errors import ConfigError
from singleshot.prediction.detections import check_score

ALL_DETECTIONS = 100_000
"""So many are asked of a network where only some classes are kept: the others' must not use up the places."""


def choose_postprocess(
    model: PostprocessConfig,
    score_threshold: float,
    nms_iou: float | None = None,
    max_detections: int | None = None,
    *,
    agnostic: bool = False,
    some_classes: bool = False,
    clip: bool | None = True,
) -> PostprocessConfig:
    """The model's own postprocessing with what a user asks for.

    Args:
        model: the model's own.
        score_threshold: least confidence.
        nms_iou, max_detections: ``None`` leaves the model's.
        agnostic: whether boxes suppress those of other classes, too.
        some_classes: whether only some classes will be kept, and the number of detections counts those.
        clip: whether boxes end at the picture; ``None`` leaves it as the model's own system has it.

    Raises:
        ConfigError: a value that makes no sense.
    """
    changes: dict[str, Any] = {"score_threshold": check_score(score_threshold, "score_threshold")}
    if nms_iou is not None:
        changes["nms_iou"] = check_score(nms_iou, "nms_iou")
    if max_detections is not None:
        changes["max_detections"] = check_whole(max_detections, "max_detections")
    if some_classes:
        changes["max_detections"] = ALL_DETECTIONS
    if agnostic:
        changes["class_agnostic"] = True
    if clip is not None and model.clip != "before":  # what is clipped before NMS decides which boxes remain
        changes["clip"] = "after" if clip else "none"
    return model.model_copy(update=changes)


def check_whole(value: Any, name: str, least: int = 1, most: float = math.inf) -> int:
    """A whole number in its range.

    Raises:
        ConfigError: it is another number, or none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ConfigError(f"{name} must be a whole number, not {value!r}")
    if not least <= number <= most:
        limits = f"be at least {least}" if most == math.inf else f"lie in {least}..{most}"
        raise ConfigError(f"{name} must {limits}, not {number}")
    return number


def check_batch(batch_size: int) -> int:
    """A batch size that makes sense.

    Raises:
        ConfigError: it does not.
    """
    return check_whole(batch_size, "batch_size", 1, 1024)
