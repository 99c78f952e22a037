"""From head outputs to detections (SSD section 2.2; Caffe's ``DetectionOutput``)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from singleshot.core.boxes import clip_to_image, xyxy_to_cxcywh
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.multibox.coder import CODER, decode_boxes
from singleshot.multibox.nms import NmsConfig, greedy_nms, rank_in_groups
from singleshot.multibox.soft_nms import SoftNmsConfig, soft_nms

MARGIN = 1e-3
"""Natural logarithm of how far below the threshold a score is looked at: far more than rounding."""


class PaddedDetections(NamedTuple):
    """Detections of a batch, best first; ``D`` is ``max_detections``.

    Attributes:
        boxes_xyxy: pixels of the network input, 0 where padded, ``[B, D, 4]``.
        scores: 0 where padded, ``[B, D]``.
        class_ids: 0..C-1, -1 where padded, ``[B, D]`` int64.
        counts: detections of each image, ``[B]`` int64.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    class_ids: Tensor
    counts: Tensor


class Candidates(NamedTuple):
    """What scores enough to be looked at, in the order of images, anchors, classes; ``[N]`` each."""

    scores: Tensor
    images: Tensor
    anchors: Tensor
    class_ids: Tensor

    def pick(self, which: Tensor) -> Candidates:
        """Some of them, by index or mask."""
        return Candidates(*(column[which] for column in self))


@torch.no_grad()
def postprocess(
    output: HeadOutput | RefineOutput,
    anchors_cxcywh: Tensor,
    postprocess: PostprocessConfig,
    coder: CoderConfig = CODER,
    image_size_hw: tuple[int, int] = (1, 1),
    num_classes: int | None = None,
) -> PaddedDetections:
    """Score, threshold, decode, suppress and cut a batch. Only candidates that reach NMS are decoded.

    Args:
        output: raw heads of the network.
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]``.
        postprocess: thresholds and dialect. With ``class_agnostic`` all classes count as one, for its limits too.
        coder: how codes and boxes relate.
        image_size_hw: network input in pixels, for clipping.
        num_classes: public classes; ``None`` takes all columns but the background.
    """
    columns = class_columns(output.class_logits.shape[-1], postprocess, num_classes)
    found = _candidates(output, columns, postprocess)
    top_k = postprocess.pre_nms_top_k
    if postprocess.top_k_scope == "image" and top_k is not None:
        found, top_k = found.pick(_best_of_groups(found.scores, found.images, top_k)), None
    groups = found.images if postprocess.class_agnostic else found.images * len(columns) + found.class_ids

    def boxes_of(rows: Tensor) -> Tensor:
        boxes = decode_at(output, anchors_cxcywh, found.images[rows], found.anchors[rows], coder)
        return clip_to_image(boxes, image_size_hw) if postprocess.clip == "before" else boxes

    if postprocess.nms in ("greedy", "none"):
        kept = greedy_nms(found.scores, found.images, groups, boxes_of, _nms_config(postprocess, top_k, image_size_hw))
        found, boxes = found.pick(kept.rows), kept.boxes_xyxy
    else:
        rows = _best_of_groups(found.scores, groups, top_k)
        found, boxes = found.pick(rows), boxes_of(rows)
        chosen, scores = soft_nms(
            found.scores, found.images, groups[rows], boxes, _soft_config(postprocess, image_size_hw)
        )
        found, boxes = found.pick(chosen)._replace(scores=scores), boxes[chosen]
    if postprocess.clip == "after":
        boxes = clip_to_image(boxes, image_size_hw)
    return _pad(found, boxes, len(output.class_logits), postprocess.max_detections)


def class_columns(logits: int, config: PostprocessConfig, num_classes: int | None = None) -> tuple[int, ...]:
    """The logit column of each public class."""
    if config.class_columns is not None:
        return config.class_columns
    return tuple(range(1, logits if num_classes is None else num_classes + 1))


def class_scores(output: HeadOutput | RefineOutput, config: PostprocessConfig) -> Tensor:
    """Probabilities of all columns, 0 where RefineDet's first step sees no object, ``[..., K]`` float32."""
    logits = output.class_logits.float()
    scores = logits.softmax(dim=-1) if config.score_function == "softmax" else logits.sigmoid()
    if isinstance(output, RefineOutput):
        objectness = output.arm_logits.float().softmax(dim=-1)[..., 1:]
        scores.masked_fill_(objectness <= config.min_objectness, 0.0)
    return scores


def take_columns(scores: Tensor, columns: tuple[int, ...]) -> Tensor:
    """Some columns, ``[..., K]`` -> ``[..., C]``, as slices: an index list would have to be sent to the device."""
    breaks = [i for i in range(1, len(columns)) if columns[i] != columns[i - 1] + 1]
    runs = [columns[i:j] for i, j in zip([0, *breaks], [*breaks, len(columns)], strict=True)]
    return torch.cat([scores[..., run[0] : run[-1] + 1] for run in runs], dim=-1)


def decode_at(
    output: HeadOutput | RefineOutput, anchors_cxcywh: Tensor, images: Tensor, anchors: Tensor, coder: CoderConfig
) -> Tensor:
    """Boxes of some anchors of some images: one decoding, or RefineDet's two, ``[n]`` twice -> ``[n, 4]`` xyxy."""
    rows = images * len(anchors_cxcywh) + anchors
    origin = anchors_cxcywh[anchors]
    if isinstance(output, RefineOutput):
        origin = xyxy_to_cxcywh(decode_boxes(output.arm_box_codes.flatten(0, 1)[rows].float(), origin, coder))
    return decode_boxes(output.box_codes.flatten(0, 1)[rows].float(), origin, coder)


def _candidates(output: HeadOutput | RefineOutput, columns: tuple[int, ...], config: PostprocessConfig) -> Candidates:
    """Pairs of anchor and class that score above the threshold. Only anchors that have one are exponentiated."""
    _, anchors, width = output.class_logits.shape
    class_of = torch.full((width,), -1, dtype=torch.int64)
    class_of[list(columns)] = torch.arange(len(columns))
    unused = (class_of < 0).nonzero().squeeze(1)
    logits = output.class_logits.float()
    hopeful = _may_reach(logits, unused, config).index_fill_(2, unused.to(logits.device), False)
    places = _true_places(hopeful.flatten())
    rows, own = torch.unique_consecutive(places // width, return_inverse=True)
    scores = class_scores(_at(output, rows), config)
    if config.candidates == "best_class":
        best, class_ids = take_columns(scores, columns).max(dim=-1)
        return _above(Candidates(best, rows // anchors, rows % anchors, class_ids), config.score_threshold)
    rows, class_ids = places // width, class_of.to(logits.device)[places % width]
    scores = scores[own, places % width]
    return _above(Candidates(scores, rows // anchors, rows % anchors, class_ids), config.score_threshold)


def _may_reach(logits: Tensor, unused: Tensor, config: PostprocessConfig) -> Tensor:
    """Which logits can score above the threshold, seen without exponentials; a few more than do, ``[B, A, K]`` bool.

    A softmax is less than ``exp(logit - other)`` for any other column, such as the background.
    """
    threshold = config.score_threshold
    if not 0 < threshold < 1:
        return torch.ones_like(logits, dtype=torch.bool)
    if config.score_function == "sigmoid":
        return logits > math.log(threshold) - math.log1p(-threshold) - MARGIN
    if len(unused) == 0:
        return torch.ones_like(logits, dtype=torch.bool)
    background = logits[..., int(unused[0]), None]
    least = background + (math.log(threshold) - MARGIN)
    return logits > least.nextafter(least.new_tensor(-torch.inf))  # whichever way the sum was rounded


def _at(output: HeadOutput | RefineOutput, rows: Tensor) -> HeadOutput | RefineOutput:
    """The logits of some anchors of the flattened batch, ``[R, K]``."""
    if isinstance(output, RefineOutput):
        arm_logits = output.arm_logits.flatten(0, 1)[rows]
        return output._replace(class_logits=output.class_logits.flatten(0, 1)[rows], arm_logits=arm_logits)
    return output._replace(class_logits=output.class_logits.flatten(0, 1)[rows])


def _above(found: Candidates, threshold: float) -> Candidates:
    return found.pick((found.scores > threshold).nonzero().squeeze(1))


def _true_places(mask: Tensor) -> Tensor:
    """Where a mask ``[N]`` of few true values is true: it is searched in words of eight, most of which are 0."""
    padded = F.pad(mask, (0, -len(mask) % 8))
    words = padded.view(torch.int64).nonzero().squeeze(1)
    word, byte = padded.view(-1, 8)[words].nonzero(as_tuple=True)
    return words[word] * 8 + byte


def _nms_config(config: PostprocessConfig, top_k: int | None, image_size_hw: tuple[int, int]) -> NmsConfig:
    iou = config.nms_iou if config.nms == "greedy" else math.inf
    eps = config.nms_union_eps * math.prod(image_size_hw)
    return NmsConfig(iou, config.nms_compare, top_k, config.max_per_class, config.max_detections, eps)


def _soft_config(config: PostprocessConfig, image_size_hw: tuple[int, int]) -> SoftNmsConfig:
    return SoftNmsConfig(
        "linear" if config.nms == "soft_linear" else "gaussian",
        config.nms_iou,
        config.soft_nms_sigma,
        config.score_threshold,
        config.max_per_class,
        config.max_detections,
        config.nms_union_eps * math.prod(image_size_hw),
    )


def _best_of_groups(scores: Tensor, groups: Tensor, limit: int | None) -> Tensor:
    """Rows of the ``limit`` best of each group, ascending."""
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(groups[order], stable=True)]
    return order.sort().values if limit is None else order[rank_in_groups(groups[order]) < limit].sort().values


def _pad(found: Candidates, boxes: Tensor, batch: int, size: int) -> PaddedDetections:
    """Detections sorted by image as one row per image."""
    place = rank_in_groups(found.images)
    result = PaddedDetections(
        boxes.new_zeros(batch, size, 4),
        found.scores.new_zeros(batch, size),
        found.class_ids.new_full((batch, size), -1),
        found.images.bincount(minlength=batch),
    )
    result.boxes_xyxy[found.images, place] = boxes
    result.scores[found.images, place] = found.scores
    result.class_ids[found.images, place] = found.class_ids
    return result
