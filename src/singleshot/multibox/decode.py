"""From head outputs to detections (SSD section 2.2; Caffe's ``DetectionOutput``), by the rules of `core.postprocess`.

This form is the definition: all others are tested against it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from singleshot.core.boxes import clip_to_image, xyxy_to_cxcywh
from singleshot.core.nms_kinds import NMS_KINDS, NmsConfig, NmsKind
from singleshot.core.postprocess import PaddedDetections, class_columns
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.multibox.coder import CODER, decode_boxes
from singleshot.multibox.nms import best_of_groups, rank_in_groups
from singleshot.multibox.shortlist import Candidates, shortlist


@torch.no_grad()
def postprocess(
    output: HeadOutput | RefineOutput,
    anchors_cxcywh: Tensor,
    postprocess: PostprocessConfig,
    coder: CoderConfig = CODER,
    image_size_hw: tuple[int, int] = (1, 1),
    num_classes: int | None = None,
) -> PaddedDetections[Tensor]:
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
    found = shortlist(output, columns, postprocess)
    top_k = postprocess.pre_nms_top_k
    if postprocess.top_k_scope == "image" and top_k is not None:
        found, top_k = found.pick(best_of_groups(found.scores, found.images, top_k)), None
    groups = found.images if postprocess.class_agnostic else found.images * len(columns) + found.class_ids

    def boxes_of(rows: Tensor) -> Tensor:
        boxes = decode_at(output, anchors_cxcywh, found.images[rows], found.anchors[rows], coder)
        return clip_to_image(boxes, image_size_hw) if postprocess.clip == "before" else boxes

    nms: NmsKind[Tensor] = NMS_KINDS.get(postprocess.nms, "postprocess.nms")
    kept = nms(found.scores, found.images, groups, boxes_of, _nms_config(postprocess, top_k, image_size_hw))
    found, boxes = found.pick(kept.rows)._replace(scores=kept.scores), kept.boxes_xyxy
    if postprocess.clip == "after":
        boxes = clip_to_image(boxes, image_size_hw)
    return _pad(found, boxes, len(output.class_logits), postprocess.max_detections)


def decode_at(
    output: HeadOutput | RefineOutput, anchors_cxcywh: Tensor, images: Tensor, anchors: Tensor, coder: CoderConfig
) -> Tensor:
    """Boxes of some anchors of some images: one decoding, or RefineDet's two, ``[n]`` twice -> ``[n, 4]`` xyxy."""
    rows = images * len(anchors_cxcywh) + anchors
    origin = anchors_cxcywh[anchors]
    if isinstance(output, RefineOutput):
        origin = xyxy_to_cxcywh(decode_boxes(output.arm_box_codes.flatten(0, 1)[rows].float(), origin, coder))
    return decode_boxes(output.box_codes.flatten(0, 1)[rows].float(), origin, coder)


def _nms_config(config: PostprocessConfig, top_k: int | None, image_size_hw: tuple[int, int]) -> NmsConfig:
    return NmsConfig(
        config.nms_iou,
        config.nms_compare,
        top_k,
        config.max_per_class,
        config.max_detections,
        config.nms_union_eps * math.prod(image_size_hw),
        config.soft_nms_sigma,
        config.score_threshold,
    )


def _pad(found: Candidates, boxes: Tensor, batch: int, size: int) -> PaddedDetections[Tensor]:
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
