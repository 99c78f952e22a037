from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from singleshot.core.boxes import aligned_iou, ciou_penalty, cxcywh_to_xyxy
from singleshot.core.settings import LossConfig, MatchConfig
from singleshot.core.structures import HeadOutput
from singleshot.models.zoo import box_shapes
from singleshot.multibox.alignment import align
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.class_losses import quality_focal_losses
from singleshot.multibox.coder import encode_boxes
from singleshot.multibox.loss import multibox_loss
from singleshot.multibox.matching import match_anchors

ANCHORS = default_boxes(box_shapes.tf_anchors(levels=3), ((6, 6), (3, 3), (1, 1)), (64, 64))
PREDICTIONS = MatchConfig(assign="predictions", candidates=4)


def scene(batch: int, objects: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, objects, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 6 + torch.rand(batch, objects, 2, generator=generator) * 18], dim=2)
    valid = torch.rand(batch, objects, generator=generator) < 0.8
    return boxes, torch.randint(0, 3, (batch, objects), generator=generator), valid


def one_by_one(
    predicted: Tensor, scores: Tensor, boxes: Tensor, ids: Tensor, forced: Tensor, config: MatchConfig
) -> list[int]:
    """The same in plain Python for one image whose objects are all valid."""
    claims: dict[int, list[tuple[float, int]]] = {}
    for number, (box, class_id) in enumerate(zip(boxes, ids, strict=True)):
        overlap = aligned_iou(predicted, box.expand_as(predicted))
        good = scores[:, class_id] ** config.score_power * overlap**config.iou_power
        x, y = ANCHORS[:, 0], ANCHORS[:, 1]
        inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
        ranked = sorted((-float(g), i) for i, g in enumerate(good) if inside[i] and g > 0)[: config.candidates]
        chosen = [i for _, i in ranked] or [i for i in range(len(ANCHORS)) if int(forced[i]) == number]
        for i in chosen:
            claims.setdefault(i, []).append((float(overlap[i]), number))
    return [max(claims[i], key=lambda c: (c[0], -c[1]))[1] if i in claims else -1 for i in range(len(ANCHORS))]


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_plain_reading(seed: int):
    generator = torch.Generator().manual_seed(seed)
    boxes, ids, _ = scene(2, 5, seed)
    valid = torch.ones(2, 5, dtype=torch.bool)
    predicted = cxcywh_to_xyxy(ANCHORS) + torch.randn(2, len(ANCHORS), 4, generator=generator) * 2
    scores = torch.rand(2, len(ANCHORS), 3, generator=generator)
    forced = match_anchors(ANCHORS, boxes, valid, PREDICTIONS)
    index, quality = align(predicted, scores, ANCHORS, boxes, ids, valid, forced, PREDICTIONS)
    for image in range(2):
        expected = one_by_one(
            predicted[image], scores[image], boxes[image], ids[image], forced.object_index[image], PREDICTIONS
        )
        assert index[image].tolist() == expected
        own = boxes[image][index[image].clamp(min=0)]
        expected_iou = torch.where(index[image] >= 0, aligned_iou(predicted[image], own), 0.0)
        torch.testing.assert_close(quality[image], expected_iou)


def test_padding_and_images_without_objects_change_nothing():
    boxes, ids, valid = scene(3, 4)
    valid[1] = False
    generator = torch.Generator().manual_seed(5)
    output = HeadOutput(
        torch.randn(3, len(ANCHORS), 4, generator=generator), torch.randn(3, len(ANCHORS), 4, generator=generator)
    )
    loss = LossConfig(classification="quality_focal", box="ciou")
    alone = [
        multibox_loss(
            HeadOutput(output.box_codes[i : i + 1], output.class_logits[i : i + 1]), ANCHORS,
            boxes[i : i + 1, valid[i]], ids[i : i + 1, valid[i]], valid[i : i + 1, valid[i]],
            match=PREDICTIONS, loss=loss,
        )
        for i in range(3)
    ]  # fmt: skip
    together = multibox_loss(output, ANCHORS, boxes, ids, valid, match=PREDICTIONS, loss=loss)
    assert together["positives"] == sum(one["positives"] for one in alone)
    total = sum(one["localization"] * one["positives"].clamp(min=1) for one in alone)
    assert together["localization"] * together["positives"] == pytest.approx(float(total), rel=1e-5)
    nothing = multibox_loss(output, ANCHORS, boxes[:, :0], ids[:, :0], valid[:, :0], match=PREDICTIONS, loss=loss)
    assert nothing["localization"] == 0
    assert nothing["classification"] > 0


def test_quality_focal_loss_is_least_at_the_iou():
    """Eq. 2: zero where the score is the quality, binary cross-entropy times the squared distance elsewhere."""
    quality = torch.tensor([0.7, 0.0])
    columns = torch.tensor([2, 0])
    exact = torch.tensor([[0.0, -60.0, math.log(0.7 / 0.3)], [0.0, -60.0, -60.0]])
    assert quality_focal_losses(exact, columns, LossConfig(), quality).abs().max() < 1e-6
    other = torch.tensor([[0.0, 0.3, -0.4]])
    found = quality_focal_losses(other, columns[:1], LossConfig(focal_gamma=2.0), quality[:1])
    score = [1 / (1 + math.exp(-x)) for x in (0.3, -0.4)]
    wrong = score[0] ** 2 * -math.log(1 - score[0])
    right = (score[1] - 0.7) ** 2 * -(0.7 * math.log(score[1]) + 0.3 * math.log(1 - score[1]))
    assert float(found) == pytest.approx(wrong + right, rel=1e-5)


def test_quality_is_the_iou_of_the_predicted_box_with_anchors_assigned_by_iou():
    """Perfect codes: the targets are 1, so that large logits of the right classes cost nothing."""
    boxes, ids, _ = scene(1, 3, 7)
    valid = torch.ones(1, 3, dtype=torch.bool)
    index = match_anchors(ANCHORS, boxes, valid).object_index[0]
    own = boxes[0][index.clamp(min=0)]
    codes = torch.where((index >= 0)[:, None], encode_boxes(own, ANCHORS), 0.0)
    logits = torch.full((1, len(ANCHORS), 4), -30.0)
    logits[0, index >= 0, ids[0][index[index >= 0]] + 1] = 30.0
    losses = multibox_loss(
        HeadOutput(codes[None], logits), ANCHORS, boxes, ids, valid, loss=LossConfig(classification="quality_focal")
    )
    assert losses["classification"] < 1e-3


def test_ciou_of_the_paper():
    """Boxes of one centre: 1 - CIoU = 1 - IoU + alpha v, v of the aspect ratios (eq. 9), alpha of eq. 11."""
    a, b = torch.tensor([[-2.0, -1.0, 2.0, 1.0]]), torch.tensor([[-1.0, -2.0, 1.0, 2.0]])
    v = 4 / math.pi**2 * (math.atan(2.0) - math.atan(0.5)) ** 2
    overlap = 4 / 12
    assert float(ciou_penalty(a, b)) == pytest.approx(v * v / (1 - overlap + v), rel=1e-5)
    assert float(ciou_penalty(a, a)) == 0
    empty = torch.zeros(1, 4, requires_grad=True)
    ciou_penalty(empty, b).sum().backward()
    assert empty.grad is not None
    assert empty.grad.isfinite().all()
