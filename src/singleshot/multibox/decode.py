"""From head outputs to detections (SSD section 2.2; Caffe's ``DetectionOutput``)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from singleshot.boxes import clip_to_image, xyxy_to_cxcywh
from singleshot.config import CoderConfig, PostprocessConfig
from singleshot.multibox.coder import CODER, decode_boxes
from singleshot.multibox.nms import greedy_keep
from singleshot.structures import HeadOutput, RefineOutput


class PaddedDetections(NamedTuple):
    """Detections of a batch, best first, padded to the largest image.

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


@torch.no_grad()
def postprocess(
    output: HeadOutput | RefineOutput,
    anchors_cxcywh: Tensor,
    postprocess: PostprocessConfig,
    coder: CoderConfig = CODER,
    image_size_hw: tuple[int, int] = (1, 1),
    num_classes: int | None = None,
) -> PaddedDetections:
    """Score, threshold, decode and suppress a batch.

    Args:
        output: raw heads of the network.
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]``.
        postprocess: thresholds and dialect.
        coder: how codes and boxes relate.
        image_size_hw: network input in pixels, for clipping.
        num_classes: public classes; ``None`` takes all columns but the background.
    """
    scores = class_scores(output, postprocess, num_classes)
    batch, anchors, classes = scores.shape
    image, anchor, class_id = (scores > postprocess.score_threshold).nonzero(as_tuple=True)
    score = scores[image, anchor, class_id]
    order = torch.argsort(score, descending=True, stable=True)
    image, anchor, class_id, score = image[order], anchor[order], class_id[order], score[order]
    group = image if postprocess.class_agnostic else image * classes + class_id
    if postprocess.pre_nms_top_k is not None:
        first = rank_in_group(image * classes + class_id) < postprocess.pre_nms_top_k
        image, anchor, class_id, score, group = image[first], anchor[first], class_id[first], score[first], group[first]
    codes = output.box_codes[image, anchor].float()
    from_anchors = anchors_cxcywh[anchor]
    if isinstance(output, RefineOutput):
        from_anchors = xyxy_to_cxcywh(decode_boxes(output.arm_box_codes[image, anchor].float(), from_anchors, coder))
    boxes = decode_boxes(codes, from_anchors, coder)
    if postprocess.clip == "before":
        boxes = clip_to_image(boxes, image_size_hw)
    keep = greedy_keep(boxes, group, postprocess.nms_iou, postprocess.nms_compare)
    image, class_id, score, boxes = image[keep], class_id[keep], score[keep], boxes[keep]
    if postprocess.clip == "after":
        boxes = clip_to_image(boxes, image_size_hw)
    place = rank_in_group(image)
    fits = place < postprocess.max_detections
    image, place = image[fits], place[fits]
    counts = torch.bincount(image, minlength=batch)
    size = int(counts.max()) if batch else 0
    result = PaddedDetections(
        boxes.new_zeros(batch, size, 4), score.new_zeros(batch, size), class_id.new_full((batch, size), -1), counts
    )
    result.boxes_xyxy[image, place] = boxes[fits]
    result.scores[image, place] = score[fits]
    result.class_ids[image, place] = class_id[fits]
    return result


def class_scores(output: HeadOutput | RefineOutput, config: PostprocessConfig, num_classes: int | None) -> Tensor:
    """Probabilities of the public classes, ``[B, A, C]``."""
    logits = output.class_logits.float()
    scores = logits.softmax(dim=-1) if config.score_function == "softmax" else logits.sigmoid()
    if config.class_columns is not None:
        scores = scores[..., list(config.class_columns)]
    else:
        scores = scores[..., 1 : None if num_classes is None else num_classes + 1]
    if isinstance(output, RefineOutput):
        objectness = output.arm_logits.float().softmax(dim=-1)[..., 1:]
        scores = scores * (objectness > config.min_objectness)
    return scores


def rank_in_group(groups: Tensor) -> Tensor:
    """How many earlier rows have the same group, ``[N]`` int64."""
    ordered, order = torch.sort(groups, stable=True)
    _, sizes = torch.unique_consecutive(ordered, return_counts=True)
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - starts
    return rank
