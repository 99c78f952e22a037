"""The three pictures of ``explain`` with their tables: default boxes, matching and mining, heads to boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.core.settings import LossConfig, MatchConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput, Sample
from singleshot.core.wording import counted
from singleshot.detector import Detector
from singleshot.images.draw import draw_detections
from singleshot.prediction.detections import Detections
from singleshot.report.page import Block, Cell, Section, Table, Text
from singleshot.report.panels import DrawnLevel, Match, draw_levels, draw_matches, draw_selection, enlarge

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")


class DrawnStep(NamedTuple):
    """A picture, the numbers in it, and what the page says of it: a text, then tables."""

    picture: NDArray[np.uint8]
    numbers: dict[str, int]
    section: Section


class Heads(NamedTuple):
    """An image's raw heads and default boxes, in pixels of the network input.

    Attributes:
        output: batch of one.
        anchors: cxcywh, ``[A, 4]``.
        size_hw: of the network input.
        score_function: how the logits are read.
    """

    output: HeadOutput | RefineOutput
    anchors: torch.Tensor
    size_hw: tuple[int, int]
    score_function: str

    @classmethod
    def of(cls, detector: Detector, pixels: NDArray[np.uint8]) -> Heads:
        """Run the network."""
        with torch.inference_mode():
            output = detector.network(detector.preprocess(pixels)[None])
        spec = detector.spec
        return cls(output, detector.anchors(), spec.preprocess.size_hw, spec.postprocess.score_function)

    def fractions(self, boxes_xyxy: torch.Tensor) -> NDArray[np.float32]:
        """Corners as fractions of the image."""
        height, width = self.size_hw
        return (boxes_xyxy.numpy() / [width, height, width, height]).astype(np.float32)


def default_boxes_part(detector: Detector, heads: Heads, pixels: NDArray[np.uint8]) -> DrawnStep:
    """Each feature map's default boxes, a few cells of them drawn."""
    from singleshot.core.boxes import cxcywh_to_xyxy

    config = detector.spec.anchors
    maps = detector.network.map_sizes_hw(heads.size_hw)
    boxes = heads.fractions(cxcywh_to_xyxy(heads.anchors))
    rows: list[list[Cell]] = []
    levels, first = [], 0
    for number, ((height, width), shapes) in enumerate(zip(maps, config.boxes_per_cell, strict=True)):
        behind = first + height * width * shapes
        own, sides = boxes[first:behind], heads.anchors[first:behind, 2:]
        in_cells = own.reshape(height, width, shapes, 4)
        if config.layout == "shape":
            in_cells = own.reshape(shapes, height, width, 4).transpose(1, 2, 0, 3)
        levels.append(DrawnLevel((height, width), in_cells))
        spans = [f"{side.min():.0f} to {side.max():.0f}" for side in sides.unbind(1)]
        rows.append([number + 1, f"{height} x {width}", shapes, behind - first, *spans])
        first = behind
    height, width = heads.size_hw
    text = Text(
        f"The network looks at the image as {width} x {height} pixels and answers for {first:,} default boxes "
        f"(anchors): on each of {counted(len(maps), 'feature map')}, every cell has a few boxes of fixed shapes. Fine "
        "maps have small boxes, coarse maps large ones. For each of them the heads say four numbers (how to move and "
        "stretch it) and one score for each class. The boxes of a few cells are drawn; those of the others look the "
        "same elsewhere."
    )
    columns = ["map", "cells", "boxes per cell", "boxes", "width, px of the input", "height, px of the input"]
    return DrawnStep(draw_levels(pixels, levels), {}, Section("Default boxes", [text, Table(columns, rows)]))


def matching_part(
    detector: Detector, heads: Heads, pixels: NDArray[np.uint8], sample: Sample, names: tuple[str, ...]
) -> DrawnStep:
    """Which anchors learn which object, which learn background; of a two-step detector, in its first step."""
    from singleshot.core.boxes import cxcywh_to_xyxy, pairwise_iou
    from singleshot.multibox.loss import choose_negatives
    from singleshot.multibox.matching import match_boxes

    match, two_steps = MatchConfig(), isinstance(heads.output, RefineOutput)
    loss = LossConfig(classification="softmax" if two_steps else heads.score_function)
    logits = heads.output.arm_logits if isinstance(heads.output, RefineOutput) else heads.output.class_logits
    rows = np.flatnonzero(~sample.iscrowd)
    scale = np.array([heads.size_hw[1], heads.size_hw[0]] * 2) / np.array([pixels.shape[1], pixels.shape[0]] * 2)
    boxes = torch.from_numpy(sample.boxes_xyxy[rows] * scale).float()
    anchors = cxcywh_to_xyxy(heads.anchors)
    valid = torch.ones(1, len(boxes), dtype=torch.bool)
    matches = match_boxes(anchors, boxes[None], valid, match)
    by_iou = match_boxes(anchors, boxes[None], valid, match.model_copy(update={"forced": "none"})).object_index[0]
    eligible = matches.eligible_mask(loss.negative_iou)
    negative = choose_negatives(logits.float(), eligible, matches.positive_mask.sum(dim=1), loss)[0]
    objects = matches.object_index[0]
    is_forced = (objects >= 0) & (objects != by_iou)
    found, table = [], []
    for index, row in enumerate(rows):
        own, forced = (objects == index) & ~is_forced, (objects == index) & is_forced
        name = names[sample.class_ids[row]]
        fractions = [heads.fractions(part) for part in (boxes[index], anchors[own], anchors[forced])]
        found.append(Match(name, *fractions))
        width, height = (boxes[index, 2:] - boxes[index, :2]).tolist()
        best = pairwise_iou(boxes[index : index + 1], anchors).max().item()
        table.append([name, f"{width:.0f} x {height:.0f}", best, int(own.sum()), int(forced.sum())])
    numbers = {
        "objects": len(rows),
        "positives": int((objects >= 0).sum()),
        "forced": int(is_forced.sum()),
        "eligible": int(eligible.sum()),
        "negatives": int(negative.sum()),
    }
    ignored = len(anchors) - numbers["positives"] - numbers["eligible"]
    spared = f", except {ignored:,} that overlap an object by {loss.negative_iou} or more and yet learn none"
    step = " This detector matches twice; its first step, which tells objects from background, is shown." * two_steps
    text = Text(
        f"In training, an anchor learns the object that it overlaps most if their IoU is at least {match.positive_iou} "
        "(solid lines). So that no object goes without, each also gets the free anchor that overlaps it best, however "
        f"little that is (dashed: forced).{step}\n\n"
        f"All other anchors could learn background{spared if ignored else ''}. They are far too many, so only the "
        f"hardest are taken: {loss.negative_ratio:g} for each positive, and at least {loss.min_negatives}. Hardest are "
        f"those that {detector.spec.name} is surest to be something, of whatever class; another detector, or this one "
        "earlier in its training, would be wrong elsewhere. The rules are those of training with its default settings, "
        "without augmentation."
    )
    headings = (
        f"{numbers['positives']} positives: {numbers['positives'] - numbers['forced']} by IoU >= {match.positive_iou} "
        f"(solid), {numbers['forced']} forced (dashed)",
        f"{numbers['negatives']} negatives, the hardest of {numbers['eligible']:,} (red)",
    )
    columns = ["object", "size, px of the input", "best IoU", "anchors by IoU", "forced anchors"]
    picture = draw_matches(pixels, found, heads.fractions(anchors[negative]), headings)
    return DrawnStep(picture, numbers, Section("Matching and mining", [text, Table(columns, table, digits=2)]))


def detection_part(detector: Detector, heads: Heads, pixels: NDArray[np.uint8], score: float) -> DrawnStep:
    """All candidates, and what is left of them."""
    config = detector.spec.postprocess.model_copy(update={"score_threshold": score})
    every = {"nms": "none", "pre_nms_top_k": None, "max_per_class": None}
    many = len(heads.anchors) * len(detector.class_names)
    boxes, _, class_ids = _boxes(detector, heads, config.model_copy(update={**every, "max_detections": many}))
    left = _boxes(detector, heads, config)
    canvas = enlarge(pixels)
    scale = np.array([canvas.shape[1], canvas.shape[0]] * 2, dtype=np.float32)
    found = Detections(left[0] * scale, left[1], left[2], detector.class_names, canvas.shape[:2])
    headings = (
        f"{counted(len(boxes), 'candidate')}: score above {score:g}",
        f"{counted(len(found), 'detection')} after NMS",
    )
    blocks: list[Block] = [
        Text(
            f"Each anchor's scores come from its logits by {config.score_function}; every pair of anchor and class "
            f"that scores above {score:g} is a candidate, and its four numbers turn the anchor into a box "
            f"(left). One object makes many candidates. Non-maximum suppression ({config.nms}) keeps the best and "
            f"drops those of {'any' if config.class_agnostic else 'its'} class that overlap it by more than "
            f"{config.nms_iou:g} (right)."
        )
    ]
    if len(found):
        rows = [[detector.class_names[item], float(score)] for item, score in zip(left[2], left[1], strict=True)]
        blocks.append(Table(["detection", "score"], rows, bars=["score"], digits=2))
    picture = draw_selection(pixels, boxes, class_ids, draw_detections(canvas, found), headings)
    return DrawnStep(
        picture, {"candidates": len(boxes), "detections": len(found)}, Section("From heads to boxes", blocks)
    )


def _boxes(
    detector: Detector, heads: Heads, config: PostprocessConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Boxes as fractions of the image, scores, class ids; best first."""
    from singleshot.multibox.decode import postprocess

    found = postprocess(
        heads.output, heads.anchors, config, detector.spec.coder, heads.size_hw, len(detector.class_names)
    )
    count = int(found.counts[0])
    boxes = heads.fractions(found.boxes_xyxy[0, :count])
    return boxes, found.scores[0, :count].numpy(), found.class_ids[0, :count].numpy()
