from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from singleshot.core.boxes import xyxy_to_cxcywh
from singleshot.core.settings import LossConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.models.zoo import box_shapes
from singleshot.multibox import plain
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.coder import decode_boxes
from singleshot.multibox.loss import multibox_loss
from singleshot.multibox.matching import match_anchors
from singleshot.multibox.refine import objectness, refine_anchors, refine_loss

ANCHORS = default_boxes(box_shapes.refinedet_anchors(64), ((8, 8), (4, 4), (2, 2), (1, 1)), (64, 64))
BOXES = torch.tensor([[[4.0, 4.0, 30.0, 40.0], [20.0, 20.0, 60.0, 50.0]], [[10.0, 30.0, 50.0, 60.0], [-7.0] * 4]])
IDS, VALID = torch.tensor([[0, 2], [1, -1]]), torch.tensor([[True, True], [True, False]])


def output(seed: int = 0, objects: float = 0.0) -> RefineOutput:
    """``objects`` raises the first step's object logit of every other anchor."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(2, len(ANCHORS), width, generator=generator) for width in (4, 4, 4, 2)]
    parts[3][:, ::2, 1] += objects
    parts[3][:, 1::2, 1] -= objects
    return RefineOutput(*(part.requires_grad_() for part in parts))


def test_no_objects():
    losses = refine_loss(output(), ANCHORS, BOXES[:, :0], IDS[:, :0], VALID[:, :0], loss=LossConfig(min_negatives=0))
    assert losses["total"].item() == 0


def test_the_first_step_sees_one_class():
    heads = output()
    losses = refine_loss(heads, ANCHORS, BOXES, IDS, VALID)
    arm = multibox_loss(HeadOutput(heads.arm_box_codes, heads.arm_logits), ANCHORS, BOXES, IDS * 0, VALID)
    assert losses["arm_classification"].item() == arm["classification"].item()
    assert losses["arm_localization"].item() == arm["localization"].item()
    parts = sum(losses[k].item() for k in ("arm_classification", "arm_localization", "classification", "localization"))
    assert losses["total"].item() == pytest.approx(parts, rel=1e-6)


def second_step(heads: RefineOutput, filter_positives: bool) -> tuple[float, float]:
    """The second step's losses, anchor by anchor."""
    classification, localization, positives = 0.0, 0.0, 0
    for b in range(2):
        refined = decode_boxes(heads.arm_box_codes[b], ANCHORS).detach()
        boxes = BOXES[b][VALID[b]]
        table = [[plain.iou(anchor, box) for box in boxes.tolist()] for anchor in refined.tolist()]
        likely = [math.exp(y) / (math.exp(x) + math.exp(y)) > 0.01 for x, y in heads.arm_logits[b].tolist()]
        chosen = plain.match(table)
        own = [a for a, m in enumerate(chosen) if m >= 0 and (likely[a] or not filter_positives)]
        others = [a for a, m in enumerate(chosen) if m < 0 and max(table[a]) < 0.5 and likely[a]]
        rows = heads.class_logits[b].tolist()
        others.sort(key=lambda a, rows=rows: -plain.cross_entropy(rows[a], 0))
        classification += sum(plain.cross_entropy(rows[a], 0) for a in others[: max(3 * len(own), 3)])
        for a in own:
            classification += plain.cross_entropy(rows[a], int(IDS[b][chosen[a]]) + 1)
            x, y, w, h = xyxy_to_cxcywh(refined[a]).tolist()
            x0, y0, x1, y1 = boxes[chosen[a]].tolist()
            goal = [((x0 + x1) / 2 - x) / w / 0.1, ((y0 + y1) / 2 - y) / h / 0.1]
            goal += [math.log((x1 - x0) / w) / 0.2, math.log((y1 - y0) / h) / 0.2]
            apart = [abs(p - g) for p, g in zip(heads.box_codes[b, a].tolist(), goal, strict=True)]
            localization += sum(d * d / 2 if d < 1 else d - 0.5 for d in apart)
        positives += len(own)
    return classification / max(1, positives), localization / max(1, positives)


@pytest.mark.parametrize("filter_positives", [False, True])
@pytest.mark.parametrize("objects", [0.0, 8.0])
def test_the_second_step_equals_the_plain_reading(objects: float, filter_positives: bool):
    heads = output(objects=objects)
    losses = refine_loss(heads, ANCHORS, BOXES, IDS, VALID, filter_positives=filter_positives)
    expected = second_step(heads, filter_positives)
    assert losses["classification"].item() == pytest.approx(expected[0], rel=1e-5)
    assert losses["localization"].item() == pytest.approx(expected[1], rel=1e-4)


def test_unlikely_anchors_teach_no_background_but_keep_their_objects():
    heads = output(objects=8.0)
    losses = refine_loss(heads, ANCHORS, BOXES, IDS, VALID, loss=LossConfig(negative_ratio=1000.0))
    (gradient,) = torch.autograd.grad(losses["classification"], [heads.class_logits])
    taught = gradient.ne(0).any(dim=2)
    matches = match_anchors(refine_anchors(heads, ANCHORS), BOXES, VALID)
    positive = matches.object_index >= 0
    assert (positive & (objectness(heads) <= 0.01)).any()
    assert torch.equal(taught, positive | ((matches.best_iou < 0.5) & (objectness(heads) > 0.01)))


def test_no_gradient_flows_through_the_refined_anchors():
    heads = output()
    losses = refine_loss(heads, ANCHORS, BOXES, IDS, VALID)
    second: Tensor = losses["classification"] + losses["localization"]
    found = torch.autograd.grad(second, list(heads), allow_unused=True)
    assert [gradient is None for gradient in found] == [False, False, True, True]
