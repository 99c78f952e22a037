"""The settings of a prediction, checked: each mistake is a `ConfigError` that names the setting."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from singleshot.core.settings import ALL_DETECTIONS, PostprocessConfig
from singleshot.errors import ConfigError


def choose_postprocess(
    model: PostprocessConfig,
    score: float,
    nms_iou: float | None = None,
    max_detections: int | None = None,
    *,
    agnostic: bool = False,
    some_classes: bool = False,
    top_k: int | None = None,
    clip: bool | None = True,
) -> PostprocessConfig:
    """The model's own postprocessing with what a user asks for.

    Args:
        model: the model's own.
        score: least confidence.
        nms_iou, max_detections: ``None`` leaves the model's.
        agnostic: whether boxes suppress those of other classes, too.
        top_k: candidates that enter NMS, of each class or, where the model counts so, of the image; ``None`` leaves the
            model's.
        some_classes: whether only some classes will be kept, and the number of detections counts those.
        clip: whether boxes end at the picture; ``None`` leaves it as the model's own system has it.

    Raises:
        ConfigError: a value that makes no sense.
    """
    changes: dict[str, Any] = {"score_threshold": check_score(score)}
    if nms_iou is not None:
        changes["nms_iou"] = check_score(nms_iou, "nms_iou")
    if max_detections is not None:
        changes["max_detections"] = check_whole(max_detections, "max_detections")
    if top_k is not None:
        changes["pre_nms_top_k"] = check_whole(top_k, "top_k")
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
        raise ConfigError(f"`{name}` must be a whole number, not {value!r}")
    if not least <= number <= most:
        limits = f"be at least {least}" if most == math.inf else f"lie in {least}..{most}"
        raise ConfigError(f"`{name}` must {limits}, not {number}")
    return number


def check_score(score: float, name: str = "score") -> float:
    """A score threshold that makes sense.

    Raises:
        ConfigError: it is not a number in 0..1.
    """
    if isinstance(score, bool):
        raise ConfigError(f"`{name}` must be a number in 0..1, not {score!r}")
    try:
        value = float(score)
    except (TypeError, ValueError):
        raise ConfigError(f"`{name}` must be a number in 0..1, not {score!r}") from None
    if not 0.0 <= value <= 1.0:
        hint = f"; did you mean {value / 100:g}?" if 2 <= value <= 100 else ""  # per cent
        raise ConfigError(f"`{name}` must lie in 0..1, not {value:g}{hint}")
    return value


def check_line_width(line_width: int | None) -> int | None:
    """A width of lines that makes sense.

    Raises:
        ConfigError: it does not.
    """
    whole = isinstance(line_width, (int, np.integer)) and not isinstance(line_width, bool)
    if line_width is not None and not (whole and 1 <= line_width <= 1000):
        raise ConfigError(f"`line_width` must be a whole number of pixels in 1..1000, not {line_width!r}")
    return line_width


def class_ids_of(classes: Collection[str | int] | str | int, class_names: Sequence[str]) -> list[int]:
    """Class ids of class names or ids; a name that several classes have means all of them.

    Raises:
        ConfigError: a class that the vocabulary does not have; names the nearest.
    """
    if not isinstance(classes, (str, int, np.integer, Iterable)):
        raise ConfigError(f"`classes` must be names or ids of classes, not {classes!r}")
    ids: list[int] = []
    for item in [classes] if isinstance(classes, (str, int, np.integer)) else classes:
        if isinstance(item, str) and item in class_names:
            ids += [class_id for class_id, name in enumerate(class_names) if name == item]
        elif isinstance(item, (int, np.integer)) and 0 <= item < len(class_names):
            ids.append(int(item))
        else:
            lower = {name.lower(): name for name in class_names}
            near = difflib.get_close_matches(str(item).lower(), lower, n=1)
            hint = f"; did you mean '{lower[near[0]]}'?" if near else f"; the classes are {', '.join(class_names)}"
            raise ConfigError(f"no class {item!r}{hint}")
    return ids
