"""Kinds of non-maximum suppression by name. Importing this imports neither torch nor any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from singleshot.core.registry import Registry

ArrayT = TypeVar("ArrayT")
Compare = Literal[">", ">="]


class NmsConfig(NamedTuple):
    """Settings of a suppression.

    Attributes:
        iou: overlap that suppresses; infinite suppresses nothing.
        compare: whether a box at exactly ``iou`` is kept (``>``) or suppressed (``>=``).
        top_k: best candidates of each group that enter; ``None`` lets all.
        max_per_group: survivors of each group; ``None`` keeps all.
        max_per_image: survivors of each image; ``None`` keeps all.
        union_eps: added to the area of every union.
        sigma: width of soft-NMS's gaussian.
        min_score: a kind that lowers scores keeps boxes whose lowered score is above this.
    """

    iou: float
    compare: Compare = ">"
    top_k: int | None = None
    max_per_group: int | None = None
    max_per_image: int | None = None
    union_eps: float = 0.0
    sigma: float = 0.5
    min_score: float = 0.0


class Survivors(NamedTuple, Generic[ArrayT]):
    """What a suppression leaves, by image and falling score; of equal scores the earlier candidate first.

    Attributes:
        rows: where in the candidates they were, ``[K]`` int64.
        boxes_xyxy: their boxes, ``[K, 4]``.
        scores: as they were, or lowered, ``[K]``.
    """

    rows: ArrayT
    boxes_xyxy: ArrayT
    scores: ArrayT


class NmsKind(Protocol[ArrayT]):
    """A kind of suppression, of all groups of all images together, on torch tensors of any device."""

    def __call__(
        self,
        scores: ArrayT,
        images: ArrayT,
        groups: ArrayT,
        boxes_of: Callable[[ArrayT], ArrayT],
        config: NmsConfig,
    ) -> Survivors[ArrayT]:
        """Suppress.

        Args:
            scores: ``[N]``, possibly none; equal scores are taken in the given order.
            images: image of each candidate, ascending from 0, ``[N]`` int64.
            groups: group of each candidate, small integers, each within one image, ``[N]`` int64. Boxes suppress those
                of their own group: an image's class, or the image.
            boxes_of: decodes the candidates ``[n]`` to corners ``[n, 4]``; ask only for those that are needed.
            config: thresholds and limits.
        """


NMS_KINDS: Registry[NmsKind[Any]] = Registry(
    "nms kind",
    {
        "greedy": "singleshot.multibox.nms",
        "soft_linear": "singleshot.multibox.soft_nms",
        "soft_gaussian": "singleshot.multibox.soft_nms",
        "none": "singleshot.multibox.nms",
    },
)
"""What ``PostprocessConfig.nms`` may name. Ours are exact greedy NMS, two kinds of soft-NMS, and none."""
