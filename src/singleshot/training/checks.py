"""What can be known to be wrong before the first step: data that cannot teach, default boxes that cannot match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from singleshot.core.structures import ClassMap, Sample
from singleshot.errors import DataError
from singleshot.models.config import ObjectSizes
from singleshot.training.anchor_clusters import best_boxes

RECALL_IOU = 0.5
LOW_RECALL = 0.8
MIN_OBJECTS = 10
# Enough for a share to the percent; all boxes of COCO against all anchors would take minutes.
MAX_BOXES = 4000


@dataclass(frozen=True, slots=True)
class AnchorFit:
    """How well default boxes can cover the objects of a data set.

    Attributes:
        class_names: classes 0..C-1.
        objects: how many of each class were looked at, ``[C]``.
        recall: share of each class that some anchor overlaps by ``RECALL_IOU`` or more, ``[C]``; NaN without objects.
        mean_iou: mean best IoU of each class, ``[C]``.
        median_side: median of the square root of the objects' areas, in pixels of the network input.
        smallest_anchor: square root of the smallest anchor's area, in the same pixels.
    """

    class_names: tuple[str, ...]
    objects: np.ndarray
    recall: np.ndarray
    mean_iou: np.ndarray
    median_side: float
    smallest_anchor: float

    def lines(self) -> list[str]:
        """One line per class for a person."""
        width = max((len(name) for name in self.class_names), default=0)
        return [
            f"{name:<{width}}  {count:6d} objects  best-anchor IoU {iou:.2f}  recall at {RECALL_IOU:g}: {recall:.0%}"
            for name, count, iou, recall in zip(self.class_names, self.objects, self.mean_iou, self.recall, strict=True)
            if count
        ]

    def warnings(self, is_fitted: bool = False) -> list[str]:
        """What to worry about, and the remedy.

        Args:
            is_fitted: whether the boxes are already scaled to the objects.
        """
        factor = max(self.median_side / self.smallest_anchor, 0.01)
        remedy = "try `anchors='auto'`" + (f", or `anchor_scale={factor:.2g}`" if factor < 1 else "")
        if is_fitted:
            remedy = "a larger `size` may help, or, of large photos, tiles: `tile=640`"
        poor = [name for name, recall in zip(self.class_names, self.recall, strict=True) if recall < LOW_RECALL]
        found = []
        if poor:
            found.append(
                f"few default boxes fit {_names(poor)}: fewer than {LOW_RECALL:.0%} of their objects overlap one by "
                f"{RECALL_IOU:g}. They still learn from their best box; {remedy}"
            )
        if self.smallest_anchor > self.median_side:
            found.append(
                f"the smallest default box ({self.smallest_anchor:.0f} px of the network input) is larger than half of "
                f"the objects (median {self.median_side:.0f} px): {remedy}"
            )
        return found


def check_samples(samples: Sequence[Sample], class_map: ClassMap, keep_empty: bool) -> list[str]:
    """Look for data that cannot teach.

    Returns:
        Warnings for a person.

    Raises:
        DataError: there is nothing to learn from.
    """
    if not samples:
        raise DataError("the training data has no images" + ("" if keep_empty else " with objects"))
    ids = np.concatenate([sample.class_ids[~sample.iscrowd] for sample in samples])
    if not len(ids):
        crowds = sum(len(sample) for sample in samples)
        if crowds:
            raise DataError(
                f"all {crowds} objects of the {len(samples)} training images are crowds (iscrowd: 1), from which "
                "nothing is learnt: set iscrowd to 0 where a box holds one object"
            )
        raise DataError(
            f"none of the {len(samples)} training images has an object, so nothing can be learnt from them: images "
            "without objects teach background, but only beside others; `singleshot data check` says which labels were "
            "left out, and why"
        )
    counts = np.bincount(ids, minlength=len(class_map))
    absent = [name for name, count in zip(class_map.names, counts, strict=True) if not count]
    rare = [f"{name} ({count})" for name, count in zip(class_map.names, counts, strict=True) if 0 < count < MIN_OBJECTS]
    warnings = []
    if absent:
        warnings.append(f"no training object of class {_names(absent)}: it cannot be learnt; label some, or drop it")
    if rare:
        warnings.append(f"fewer than {MIN_OBJECTS} training objects of {_names(rare)}: expect little of them")
    return warnings


def anchor_fit(
    samples: Sequence[Sample], class_map: ClassMap, anchors_cxcywh: Tensor, size_hw: tuple[int, int]
) -> AnchorFit:
    """Compare the objects of a data set, resized to the network input, with the default boxes.

    Args:
        samples: at most ``MAX_BOXES`` of their objects are looked at, evenly spread.
        class_map: their classes.
        anchors_cxcywh: in pixels of the network input, ``[A, 4]``.
        size_hw: network input.
    """
    boxes, ids = network_boxes(samples, size_hw)
    chosen = np.linspace(0, len(boxes) - 1, min(len(boxes), MAX_BOXES)).astype(int)
    boxes, ids = boxes[chosen], ids[chosen]
    best_iou = best_ious(boxes, anchors_cxcywh)
    objects = np.bincount(ids, minlength=len(class_map))
    with np.errstate(invalid="ignore"):
        recall = np.bincount(ids, best_iou >= RECALL_IOU, len(class_map)) / objects
        mean_iou = np.bincount(ids, best_iou, len(class_map)) / objects
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    return AnchorFit(
        class_names=class_map.names,
        objects=objects,
        recall=recall,
        mean_iou=mean_iou,
        median_side=float(np.median(sides)) if len(sides) else float("nan"),
        smallest_anchor=float(anchors_cxcywh[:, 2:].prod(dim=1).sqrt().min()),
    )


def best_ious(boxes_xyxy: np.ndarray, anchors_cxcywh: Tensor) -> np.ndarray:
    """How much of each object its best default box covers: IoU, ``[N]``.

    Args:
        boxes_xyxy: objects in pixels of the network input, ``[N, 4]`` float32.
        anchors_cxcywh: in the same pixels, ``[A, 4]``.
    """
    return best_boxes(torch.from_numpy(boxes_xyxy), anchors_cxcywh)[0].numpy() if len(boxes_xyxy) else np.zeros(0)


def network_boxes(samples: Sequence[Sample], size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """All objects in pixels of the network input ``[N, 4]`` float32, and their classes ``[N]``."""
    if not samples:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    sizes_hw = np.array([sample.image_size_hw for sample in samples], dtype=np.float64)
    scale_xy = (np.array(size_hw) / sizes_hw)[:, ::-1]
    factors = np.repeat(np.tile(scale_xy, 2), [len(sample) for sample in samples], axis=0)
    boxes = np.concatenate([sample.boxes_xyxy for sample in samples]) * factors
    keep = ~np.concatenate([sample.iscrowd for sample in samples])
    ids = np.concatenate([sample.class_ids for sample in samples])
    return boxes[keep].astype(np.float32), ids[keep]


def object_sizes(samples: Sequence[Sample]) -> ObjectSizes | None:
    """How large the objects of the training data are, as the pictures and the network have them; ``None`` without any.

    Of pictures that are also seen in tiles, only the tiles count.
    """
    tiles = [sample for sample in samples if sample.part_xyxy is not None and len(sample)]
    chosen = tiles or [sample for sample in samples if len(sample)]
    if not chosen:
        return None
    boxes, _ = network_boxes(chosen, (1, 1))
    shares = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    seen_px = np.sqrt([np.prod(sample.image_size_hw) for sample in chosen])
    pixels = shares * np.repeat(seen_px, [int((~sample.iscrowd).sum()) for sample in chosen])
    sides = np.stack((pixels, shares), axis=1)[shares > 0]
    if not len(sides):
        return None
    (low, small), (middle, half), (high, large) = np.percentile(sides, (10, 50, 90), axis=0).tolist()
    return ObjectSizes(pixels=(low, middle, high), shares=(small, half, large))


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
