"""What a file of the level ``decoded`` gives, as heads: then every `Form` of heads-to-boxes runs behind it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from singleshot.core.postprocess import HeadGeometry, Heads
from singleshot.core.settings import CoderConfig, PostprocessConfig, Variances

CODER = CoderConfig(variances=Variances(1, 1, 1, 1), max_log_ratio=None)


def as_heads(boxes_xyxy: NDArray[np.float32], scores: NDArray[np.float32]) -> Heads:
    """Box codes and logits that mean these boxes and scores, by `geometry_of_decoded` and `settings_of_decoded`.

    Args:
        boxes_xyxy: pixels of the network input, ``[B, A, 4]``.
        scores: of the public classes, ``[B, A, C]``.
    """
    wide, likely = boxes_xyxy.astype(np.float64), scores.astype(np.float64)
    low, high = wide[..., :2], wide[..., 2:]
    with np.errstate(divide="ignore"):  # a side of 0 is the exponential of minus infinity, a score of 1 its sigmoid
        sides = np.log((high - low).clip(min=0))
        logits = np.log(likely) - np.log1p(-likely)
    codes = np.concatenate([(low + high) / 2, sides], axis=-1)
    return [codes.astype(np.float32), logits.astype(np.float32)]


def geometry_of_decoded(anchors: int, size_hw: tuple[int, int], classes: int) -> HeadGeometry:
    """Default boxes of one pixel at the origin: codes are the boxes themselves."""
    return HeadGeometry(np.tile(np.array([0, 0, 1, 1], np.float32), (anchors, 1)), CODER, size_hw, classes)


def settings_of_decoded(settings: PostprocessConfig, classes: int) -> PostprocessConfig:
    """The settings, for logits of which each is one public class."""
    return settings.model_copy(update={"score_function": "sigmoid", "class_columns": tuple(range(classes))})
