"""The contract from heads to boxes: what goes in, what comes out, the rules between. Neither torch nor OpenCV.

It has several forms, for speed and for machines without torch: ``multibox.decode`` (torch; the definition),
``kernels.detect`` (C), ``runtime.numpy_form``, ``export.graph_torch`` (fixed shapes, for ``torch.export``) and
``export.graph_openvino``.
``tests/test_postprocess_forms.py`` runs all of them on the same cases. The rules, in order; the settings are fields of
`PostprocessConfig`:

1. Scores are float32: a softmax over all logit columns, or the sigmoid of each. A two-step network's are 0 where the
   first step's object probability is not above ``min_objectness``.
2. Class ``c`` is the logit column ``class_columns[c]``.
3. Every pair of an anchor and a class that scores above (never at) ``score_threshold`` is a candidate. With
   ``best_class`` an anchor has one pair: its best class, the first of equal ones.
4. Candidates are taken by falling score. Equal scores go by the lower anchor, then by the lower column, in forms that
   say so (`Form.orders_ties`).
5. A group is a class of an image; with ``class_agnostic``, the image. The ``pre_nms_top_k`` best of each group go on,
   or those of each image (``top_k_scope``).
6. Boxes are decoded from the anchor, or from the box that the first step made of it. ``clip`` before NMS moves corners
   to the image's edge.
7. Within a group NMS suppresses what overlaps a better survivor by more than ``nms_iou`` (or at it: ``nms_compare``).
   ``nms_union_eps`` times the image's area is added to every union.
8. Each group keeps its ``max_per_class`` best, then each image its ``max_detections`` best. ``clip`` after NMS comes
   last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from singleshot.core.settings import CoderConfig, PostprocessConfig

ArrayT = TypeVar("ArrayT")

Heads = Sequence[NDArray[np.float32]]
"""Raw heads: ``box_codes [B, A, 4], class_logits [B, A, K]``; for RefineDet ``arm_box_codes, arm_logits [B, A, 2]``."""

MARGIN = 1e-3
"""Natural logarithm of how far below the threshold a score is still computed: far more than rounding."""


class HeadGeometry(NamedTuple):
    """What a network's heads mean, whatever the thresholds.

    Attributes:
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]`` float32.
        coder: how codes and boxes relate.
        size_hw: network input in pixels, for clipping.
        num_classes: public classes; ``None`` takes all columns but the background.
    """

    anchors_cxcywh: NDArray[np.float32]
    coder: CoderConfig
    size_hw: tuple[int, int]
    num_classes: int | None = None


class PaddedDetections(NamedTuple, Generic[ArrayT]):
    """Detections of a batch, best first, as tensors or arrays.

    Attributes:
        boxes_xyxy: pixels of the network input, 0 where padded, ``[B, D, 4]`` float32. ``D`` is ``max_detections`` in
            torch, whose shapes are then fixed, else the count of the fullest image.
        scores: 0 where padded, ``[B, D]`` float32.
        class_ids: 0..C-1, -1 where padded, ``[B, D]`` int64.
        counts: detections of each image, ``[B]`` int64.
    """

    boxes_xyxy: ArrayT
    scores: ArrayT
    class_ids: ArrayT
    counts: ArrayT


PaddedArrays = PaddedDetections[NDArray[Any]]


class Form(Protocol):
    """One way from heads to boxes, bound to a network's `HeadGeometry`. May be called from any thread."""

    @property
    def orders_ties(self) -> bool:
        """Whether equal scores are taken in the order of rule 4."""

    def fits(self, settings: PostprocessConfig) -> bool:
        """Whether it offers, here, what the settings ask for. If not, a call raises ``ValueError``."""

    def __call__(self, heads: Heads, settings: PostprocessConfig) -> PaddedArrays:
        """Score, threshold, decode, suppress and cut a batch."""


def class_columns(width: int, settings: PostprocessConfig, num_classes: int | None = None) -> tuple[int, ...]:
    """The logit column of each public class (rule 2).

    Args:
        width: logit columns, K.
        settings: ``class_columns``.
        num_classes: where the settings name none; ``None`` takes all columns but the first.

    Raises:
        ValueError: no class, a class without a column, or two with the same.
    """
    columns = settings.class_columns
    if columns is None:
        columns = tuple(range(1, width if num_classes is None else num_classes + 1))
    if not columns or len(set(columns)) < len(columns) or min(columns) < 0 or max(columns) >= width:
        raise ValueError(f"classes in columns {columns}: expected different ones of 0..{width - 1}")
    return columns


class Reach(NamedTuple):
    """Which logits can be candidates at all, told without exponentials; a few more than are.

    Attributes:
        background: the logits are compared with the sum of ``least`` and this column; -1 compares with ``least``.
        least: -inf rules nothing out.
    """

    background: int
    least: float


def reach(width: int, columns: Sequence[int], settings: PostprocessConfig) -> Reach:
    """How large a logit must be: a softmax is less than ``exp(logit - other)`` for any other column."""
    threshold = settings.score_threshold
    if not 0 < threshold < 1:
        return Reach(-1, -math.inf)
    if settings.score_function == "sigmoid":
        return Reach(-1, math.log(threshold) - math.log1p(-threshold) - MARGIN)
    unused = sorted(set(range(width)) - set(columns))
    return Reach(unused[0], math.log(threshold) - MARGIN) if unused else Reach(-1, -math.inf)
