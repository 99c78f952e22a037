"""Post-processing with fixed shapes, which ``torch.export`` can put into a graph; the result equals ``postprocess``."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop
from torch.utils._pytree import register_pytree_node

from singleshot.core.boxes import aligned_iou, clip_to_image, pairwise_iou, xyxy_to_cxcywh
from singleshot.core.postprocess import PaddedDetections, class_columns
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.export.refusal import FIXED_NMS
from singleshot.multibox.coder import CODER, decode_boxes
from singleshot.multibox.scores import class_scores, take_columns

TOP_K = 400
"""Candidates of a class on a GPU, where the config does not limit them: every pair of them is compared at once."""


# Old versions of torch (2.6) do not see that a generic NamedTuple is a tuple of tensors, and refuse to export it.
register_pytree_node(
    PaddedDetections,
    lambda found: (list(found), None),
    lambda parts, _: PaddedDetections(*parts),
    serialized_type_name="singleshot.PaddedDetections",
)


def fits(settings: PostprocessConfig) -> bool:
    """Whether `postprocess_static` offers what the settings say: greedy NMS or none."""
    return settings.nms in FIXED_NMS


def postprocess_static(
    output: HeadOutput | RefineOutput,
    anchors_cxcywh: Tensor,
    postprocess: PostprocessConfig,
    coder: CoderConfig = CODER,
    image_size_hw: tuple[int, int] = (1, 1),
    num_classes: int | None = None,
) -> PaddedDetections[Tensor]:
    """As ``decode.postprocess``, with the ``pre_nms_top_k`` best candidates of every class whatever they score.

    Where candidates have equal scores, which of them are the last of ``pre_nms_top_k`` and ``max_detections`` may
    differ, and on a GPU also which of them comes first.

    Args:
        output, anchors_cxcywh, postprocess, coder, image_size_hw, num_classes: as there; ``nms`` is ``greedy`` or
            ``none``. Without ``pre_nms_top_k`` all take part on a CPU, the best ``TOP_K`` of a class elsewhere.

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
    on_cpu = scores.device.type == "cpu"
    limit = postprocess.pre_nms_top_k or (len(anchors_cxcywh) * len(columns) if on_cpu else TOP_K)
    if postprocess.top_k_scope == "image":
        scores = _best_of_images(scores, limit)
    if postprocess.class_agnostic:
        scores = scores.transpose(1, 2).flatten(1)[:, None]  # of equal scores the lower anchor comes first
    values, places = scores.topk(min(limit, scores.shape[2]), dim=2)
    if on_cpu:
        values, places = _in_order(scores, places)
    anchor, class_ids = _places(places, len(columns), postprocess.class_agnostic)
    boxes = _boxes_of(output, anchors_cxcywh, anchor, coder)
    if postprocess.clip == "before":
        boxes = clip_to_image(boxes, image_size_hw)
    keep = values > 0
    if postprocess.nms == "greedy":
        union_eps = postprocess.nms_union_eps * math.prod(image_size_hw)
        find = _picked if on_cpu else _greedy
        keep = find(boxes, values, postprocess, union_eps)
    if postprocess.max_per_class is not None:
        keep = keep & (keep.cumsum(dim=2) <= postprocess.max_per_class)
    return _best(boxes, torch.where(keep, values, 0.0), class_ids, postprocess, image_size_hw)


def _in_order(scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Values and places of the best of each row, best first, of equal ones the earlier: ``topk`` promises no order."""
    places = places.sort(dim=2).values
    values, order = scores.gather(2, places).sort(dim=2, descending=True, stable=True)
    return values, places.gather(2, order)


def _places(indices: Tensor, classes: int, class_agnostic: bool) -> tuple[Tensor, Tensor]:
    """Anchor and class of each place in the score rows, ``[B, G, k]``; G is classes, or 1."""
    if class_agnostic:
        return indices // classes, indices % classes
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


def _picked(boxes: Tensor, scores: Tensor, config: PostprocessConfig, union_eps: float) -> Tensor:
    """Greedy NMS, one survivor of each image after the other until there are enough: little work for a CPU.

    Args:
        boxes: ``[B, G, k, 4]``.
        scores: 0 where none, ``[B, G, k]``.
        config: threshold and how many are wanted.
        union_eps: added to the area of every union.

    Returns:
        Which survive, ``[B, G, k]``; none beyond what the config wants.
    """
    rules = (config.nms_iou, config.nms_compare == ">=", union_eps, config.max_per_class or boxes.shape[2])
    left = torch.full((), config.max_detections)
    if not torch.compiler.is_compiling():
        # Traced as it is, it would have as many rounds as the example.
        keep: Tensor = torch.jit.script_if_tracing(_pick_all)(boxes, scores, left, *rules)  # type: ignore[no-untyped-call]
        return keep

    def unsettled(scores: Tensor, keep: Tensor, left: Tensor) -> Tensor:
        return left > 0

    def step(scores: Tensor, keep: Tensor, left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _pick(boxes, scores, keep, left, *rules)

    state = (scores.clone(), torch.zeros_like(scores, dtype=torch.bool), left)
    kept: Tensor = while_loop(unsettled, step, state)[1]  # type: ignore[no-untyped-call]
    return kept


def _pick_all(
    boxes: Tensor, scores: Tensor, left: Tensor, nms_iou: float, at: bool, union_eps: float, per_group: int
) -> Tensor:
    keep = torch.zeros_like(scores, dtype=torch.bool)
    while bool(left > 0):
        scores, keep, left = _pick(boxes, scores, keep, left, nms_iou, at, union_eps, per_group)
    return keep


def _pick(
    boxes: Tensor,
    scores: Tensor,
    keep: Tensor,
    left: Tensor,
    nms_iou: float,
    at: bool,
    union_eps: float,
    per_group: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the best box of every image, and take from its group what it suppresses.

    Args:
        boxes, scores: as in `_picked`; scores of the suppressed are 0.
        keep: the survivors so far, ``[B, G, k]``.
        left: how many more are wanted; 0 also where no image has any.
        nms_iou, at: suppress above, or from here on.
        union_eps: added to every union.
        per_group: survivors of a group.
    """
    size = scores.shape[2]
    best, place = scores.flatten(1).max(dim=1)
    group = (place // size)[:, None, None].expand(-1, 1, size)
    is_it = torch.arange(size, device=scores.device) == (place % size)[:, None]
    row, kept = scores.gather(1, group)[:, 0], keep.gather(1, group)[:, 0]
    kept = kept | (is_it & (best > 0)[:, None])
    own = boxes.gather(1, group[..., None].expand(-1, -1, -1, 4))[:, 0]
    iou = aligned_iou(own.gather(1, (place % size)[:, None, None].expand(-1, 1, 4)), own, union_eps)
    strikes = (iou >= nms_iou if at else iou > nms_iou) | is_it | (kept.sum(dim=1, keepdim=True) >= per_group)
    scores = scores.scatter(1, group, torch.where(strikes, 0.0, row)[:, None])
    return scores, keep.scatter(1, group, kept[:, None]), torch.where((best > 0).any(), left - 1, 0)


def _greedy(boxes: Tensor, scores: Tensor, config: PostprocessConfig, union_eps: float) -> Tensor:
    """The same in every row of sorted boxes at once, as the fixed point that ``nms.greedy_nms`` finds, for a GPU."""
    valid = scores > 0
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
