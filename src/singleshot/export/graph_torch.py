"""Post-processing with fixed shapes, which ``torch.export`` can put into a graph; the result equals ``postprocess``."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop
from torch.utils._pytree import register_pytree_node

from singleshot.core.boxes import clip_to_image, pairwise_iou, xyxy_to_cxcywh
from singleshot.core.postprocess import PaddedDetections, class_columns
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.multibox.coder import CODER, decode_boxes
from singleshot.multibox.scores import class_scores, take_columns

TOP_K = 400
"""Candidates of a class where the config does not limit them: shapes must be fixed."""


# Old versions of torch (2.6) do not see that a generic NamedTuple is a tuple of tensors, and refuse to export it.
register_pytree_node(
    PaddedDetections,
    lambda found: (list(found), None),
    lambda parts, _: PaddedDetections(*parts),
    serialized_type_name="singleshot.PaddedDetections",
)


def fits(settings: PostprocessConfig) -> bool:
    """Whether `postprocess_static` offers what the settings say: greedy NMS or none."""
    return settings.nms in ("greedy", "none")


def postprocess_static(
    output: HeadOutput | RefineOutput,
    anchors_cxcywh: Tensor,
    postprocess: PostprocessConfig,
    coder: CoderConfig = CODER,
    image_size_hw: tuple[int, int] = (1, 1),
    num_classes: int | None = None,
) -> PaddedDetections[Tensor]:
    """As ``decode.postprocess``, with the ``pre_nms_top_k`` best candidates of every class whatever they score.

    Where candidates have equal scores, which of them comes first may differ.

    Args:
        output, anchors_cxcywh, postprocess, coder, image_size_hw, num_classes: as there; ``nms`` is ``greedy`` or
            ``none``. Without ``pre_nms_top_k`` the best ``TOP_K`` of a class take part.

    Raises:
        ValueError: soft-NMS, whose loop has no fixed form.
    """
    if not fits(postprocess):
        raise ValueError(f"postprocess.nms {postprocess.nms!r} cannot be exported: use 'greedy' or 'none'")
    columns = class_columns(output.class_logits.shape[-1], postprocess, num_classes)
    scores = take_columns(class_scores(output, postprocess), columns).transpose(1, 2)
    if postprocess.candidates == "best_class":
        best = scores.max(dim=1, keepdim=True)
        numbers = torch.arange(len(columns), device=scores.device)[:, None]
        scores = torch.where(numbers == best.indices, scores, 0.0)
    scores = torch.where(scores > postprocess.score_threshold, scores, 0.0)
    if postprocess.top_k_scope == "image":
        scores = _best_of_images(scores, postprocess.pre_nms_top_k or TOP_K)
    if postprocess.class_agnostic:
        scores = scores.flatten(1)[:, None]
    top = scores.topk(min(postprocess.pre_nms_top_k or TOP_K, scores.shape[2]), dim=2)
    anchor, class_ids = _places(top.indices, len(anchors_cxcywh), postprocess.class_agnostic)
    boxes = _boxes_of(output, anchors_cxcywh, anchor, coder)
    if postprocess.clip == "before":
        boxes = clip_to_image(boxes, image_size_hw)
    keep = top.values > 0
    if postprocess.nms == "greedy":
        keep = _greedy(boxes, keep, postprocess, postprocess.nms_union_eps * math.prod(image_size_hw))
    if postprocess.max_per_class is not None:
        keep = keep & (keep.cumsum(dim=2) <= postprocess.max_per_class)
    return _best(boxes, torch.where(keep, top.values, 0.0), class_ids, postprocess, image_size_hw)


def _places(indices: Tensor, anchors: int, class_agnostic: bool) -> tuple[Tensor, Tensor]:
    """Anchor and class of each place in the score rows, ``[B, G, k]``; G is classes, or 1."""
    if class_agnostic:
        return indices % anchors, indices // anchors
    groups = torch.arange(indices.shape[1], device=indices.device)[:, None]
    return indices, groups.expand_as(indices)


def _boxes_of(output: HeadOutput | RefineOutput, anchors_cxcywh: Tensor, anchor: Tensor, coder: CoderConfig) -> Tensor:
    """Decoded boxes of chosen anchors, ``[B, G, k]`` -> ``[B, G, k, 4]``."""
    chosen = anchor.flatten(1)
    origin = anchors_cxcywh[chosen]
    rows = chosen[..., None].expand(-1, -1, 4)
    if isinstance(output, RefineOutput):
        origin = xyxy_to_cxcywh(decode_boxes(output.arm_box_codes.float().gather(1, rows), origin, coder))
    boxes = decode_boxes(output.box_codes.float().gather(1, rows), origin, coder)
    return boxes.view(*anchor.shape, 4)


def _best_of_images(scores: Tensor, limit: int) -> Tensor:
    """Scores ``[B, C, A]`` with 0 for all but the ``limit`` best of each image."""
    flat = scores.flatten(1)
    best = flat.topk(min(limit, flat.shape[1]), dim=1)
    return torch.zeros_like(flat).scatter(1, best.indices, best.values).view_as(scores)


def _greedy(boxes: Tensor, valid: Tensor, config: PostprocessConfig, union_eps: float) -> Tensor:
    """Greedy NMS in every row of sorted boxes at once, as the fixed point that ``nms.greedy_nms`` finds.

    Args:
        boxes: ``[B, G, k, 4]``.
        valid: which take part, ``[B, G, k]``.
        config: threshold.
        union_eps: added to the area of every union.
    """
    iou = pairwise_iou(boxes, boxes, union_eps)
    strikes = (iou > config.nms_iou if config.nms_compare == ">" else iou >= config.nms_iou).triu(1)

    def unsettled(keep: Tensor, changed: Tensor) -> Tensor:
        return changed.clone()

    def step(keep: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        following = valid & ~(strikes & keep[..., :, None]).any(dim=-2)
        return following, (following != keep).any()

    state = (valid.clone(), torch.ones((), dtype=torch.bool, device=valid.device))
    if torch.compiler.is_compiling():
        settled: Tensor = while_loop(unsettled, step, state)[0]  # type: ignore[no-untyped-call]
        return settled
    while bool(state[1]):
        state = step(*state)
    return state[0]


def _best(
    boxes: Tensor, scores: Tensor, class_ids: Tensor, config: PostprocessConfig, image_size_hw: tuple[int, int]
) -> PaddedDetections[Tensor]:
    """The ``max_detections`` best of all groups, padded."""
    size = config.max_detections
    flat = scores.flatten(1)
    values, places = flat.topk(min(size, flat.shape[1]), dim=1)
    found = values > 0
    chosen = boxes.flatten(1, 2).gather(1, places[..., None].expand(-1, -1, 4))
    if config.clip == "after":
        chosen = clip_to_image(chosen, image_size_hw)
    missing = size - values.shape[1]
    return PaddedDetections(
        F.pad(torch.where(found[..., None], chosen, 0.0), (0, 0, 0, missing)),
        F.pad(values, (0, missing)),
        F.pad(torch.where(found, class_ids.flatten(1).gather(1, places), -1), (0, missing), value=-1),
        found.sum(dim=1),
    )
