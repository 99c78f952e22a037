from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from singleshot.core.settings import BOX_LOSSES, CLASS_LOSSES, LossConfig, MatchConfig
from singleshot.core.structures import HeadOutput
from singleshot.models.zoo import box_shapes
from singleshot.multibox import plain
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.class_losses import softmax_background
from singleshot.multibox.coder import CODER
from singleshot.multibox.loss import multibox_loss
from singleshot.multibox.matching import match_anchors

SIZE = 64
CLASSES = 4
ANCHORS = default_boxes(box_shapes.tf_anchors(levels=3), ((6, 6), (3, 3), (1, 1)), (SIZE, SIZE))


def head(batch: int, seed: int = 0, scale: float = 2.0) -> HeadOutput:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(batch, len(ANCHORS), 4, generator=generator) * scale
    logits = torch.randn(batch, len(ANCHORS), CLASSES + 1, generator=generator) * scale
    return HeadOutput(codes.requires_grad_(), logits.requires_grad_())


def scene(counts: list[int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Objects of a batch, padded with rubbish."""
    generator = torch.Generator().manual_seed(seed)
    width = max(counts)
    corner = torch.rand(len(counts), width, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 4 + torch.rand(corner.shape, generator=generator) * 30], dim=2)
    ids = torch.randint(0, CLASSES, (len(counts), width), generator=generator)
    valid = torch.arange(width) < torch.tensor(counts)[:, None]
    return torch.where(valid[..., None], boxes, -7.0), torch.where(valid, ids, -1), valid


def gradients(losses: dict[str, Tensor], output: HeadOutput) -> tuple[Tensor, Tensor]:
    codes, logits = torch.autograd.grad(losses["total"], [output.box_codes, output.class_logits])
    return codes, logits


def test_no_objects_teach_background_and_nothing_else():
    output = head(2)
    losses = multibox_loss(output, ANCHORS, *scene([0, 0]))
    hardest = [sorted(softmax_background(row).tolist())[-3:] for row in output.class_logits.detach()]
    assert losses["localization"].item() == 0
    assert losses["positives"].item() == 0
    assert losses["classification"].item() == pytest.approx(sum(map(sum, hardest)))
    codes, logits = gradients(losses, output)
    assert codes.eq(0).all()
    assert int(logits.ne(0).any(dim=2).sum()) == 6


def test_no_objects_and_no_minimum_is_zero():
    output = head(2)
    losses = multibox_loss(output, ANCHORS, *scene([0, 0]), loss=LossConfig(min_negatives=0))
    assert losses["total"].item() == 0
    assert all(gradient.eq(0).all() for gradient in gradients(losses, output))


@pytest.mark.parametrize("counts", [[1], [3, 0, 2], [0, 0, 5], [4, 4, 4]])
@pytest.mark.parametrize(("ratio", "minimum"), [(3.0, 3), (0.5, 0), (100.0, 0)])
def test_equals_the_plain_reading(counts, ratio, minimum):
    output = head(len(counts))
    boxes, ids, valid = scene(counts)
    ours = multibox_loss(
        output, ANCHORS, boxes, ids, valid, loss=LossConfig(negative_ratio=ratio, min_negatives=minimum, box_weight=0.5)
    )
    objects = [boxes[b, : counts[b]].tolist() for b in range(len(counts))]
    classes = [ids[b, : counts[b]].tolist() for b in range(len(counts))]
    theirs = plain.multibox_loss(*(x.tolist() for x in output), ANCHORS.tolist(), objects, classes, ratio, minimum)
    assert ours["classification"].item() == pytest.approx(theirs[0], rel=1e-5)
    assert ours["localization"].item() == pytest.approx(theirs[1], rel=1e-5)
    assert ours["total"].item() == pytest.approx(theirs[0] + 0.5 * theirs[1], rel=1e-5)
    assert ours["positives"].item() == theirs[2]


def test_only_chosen_rows_have_gradients():
    output = head(3)
    boxes, ids, valid = scene([3, 1, 2])
    losses = multibox_loss(output, ANCHORS, boxes, ids, valid, loss=LossConfig(min_negatives=0))
    codes, logits = gradients(losses, output)
    positive = match_anchors(ANCHORS, boxes, valid).object_index >= 0
    assert torch.equal(codes.ne(0).any(dim=2), positive)
    taught = logits.ne(0).any(dim=2)
    assert (taught & positive).equal(positive)
    assert taught.sum(dim=1).tolist() == (4 * positive.sum(dim=1)).tolist()


def test_gradient_is_the_slope():
    generator = torch.Generator().manual_seed(3)
    codes = torch.randn(2, len(ANCHORS), 4, generator=generator, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(2, len(ANCHORS), 5, generator=generator, dtype=torch.float64, requires_grad=True)
    boxes, ids, valid = scene([2, 1])

    def total(codes: Tensor, logits: Tensor) -> Tensor:
        return multibox_loss(HeadOutput(codes, logits), ANCHORS.double(), boxes.double(), ids, valid)["total"]

    assert torch.autograd.gradcheck(total, (codes, logits), fast_mode=True)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "focal"])
@pytest.mark.parametrize("box", ["smooth_l1", "giou", "diou"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_every_kind_is_finite_for_bad_boxes_and_huge_outputs(kind, box, scale):
    output = head(4, scale=scale)
    boxes = torch.tensor(
        [
            [[10.0, 10.0, 10.0, 10.0]],
            [[-500.0, -500.0, 9000.0, 9000.0]],
            [[70.0, 70.0, 80.0, 80.0]],
            [[20.0, 30.0, 20.001, 60.0]],
        ]
    )
    ids, valid = torch.zeros(4, 1).long(), torch.ones(4, 1).bool()
    for forced in ("bipartite", "last_wins"):
        losses = multibox_loss(
            output,
            ANCHORS,
            boxes,
            ids,
            valid,
            match=MatchConfig(forced=forced),
            loss=LossConfig(classification=kind, box=box),
        )
        assert all(value.isfinite() for value in losses.values())
        assert all(gradient.isfinite().all() for gradient in gradients(losses, output))


def test_far_rows_keep_their_own_loss():
    logits = torch.tensor([[[0.0, 200.0], [-300.0, -301.0], [500.0, 0.0]]])
    assert softmax_background(logits)[0].tolist() == pytest.approx([200.0, math.log1p(math.exp(-1)), 0.0], abs=1e-4)


def test_mixed_precision_computes_in_float32():
    output = head(2)
    rounded = HeadOutput(*(x.detach().bfloat16() for x in output))
    objects = scene([2, 3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = multibox_loss(rounded, ANCHORS, *objects)
    outside = multibox_loss(HeadOutput(*(x.float() for x in rounded)), ANCHORS, *objects)
    assert inside["total"].dtype == torch.float32
    assert inside["total"].item() == outside["total"].item()


def test_padding_changes_nothing():
    output = head(2)
    boxes, ids, valid = scene([2, 1])
    more = torch.cat([boxes, torch.full((2, 5, 4), 11.0)], dim=1)
    padded = multibox_loss(
        output, ANCHORS, more, torch.nn.functional.pad(ids, (0, 5)), torch.nn.functional.pad(valid, (0, 5))
    )
    assert padded["total"].item() == multibox_loss(output, ANCHORS, boxes, ids, valid)["total"].item()


@pytest.mark.parametrize(
    ("settings", "logits", "column", "expected"),
    [
        ({}, [0.0, 0.0], 1, math.log(2)),
        ({"label_smoothing": 0.25}, [0.0, 1.0, 2.0], 2, None),
        ({"classification": "sigmoid"}, [9.0, 0.0, 0.0], 0, 2 * math.log(2)),
        ({"classification": "sigmoid"}, [9.0, 5.0, -5.0], 1, 2 * math.log1p(math.exp(-5))),
        ({"classification": "focal"}, [9.0, 0.0, 0.0], 0, 2 * 0.75 * 0.25 * math.log(2)),
        (
            {"classification": "focal", "focal_gamma": 0.0, "focal_alpha": 0.5},
            [0.0, 3.0],
            1,
            0.5 * math.log1p(math.exp(-3)),
        ),
        (
            {"classification": "focal"},
            [9.0, 2.0, -60.0],
            1,
            0.25 * (1 / (1 + math.exp(2))) ** 2 * math.log1p(math.exp(-2)),
        ),
    ],
)
def test_class_losses(settings, logits, column, expected):
    if expected is None:
        log_sum = math.log(sum(math.exp(x) for x in logits))
        share = [0.125, 0.125, 0.75]
        expected = sum(part * (log_sum - x) for part, x in zip(share, logits, strict=True))
    config = LossConfig(**settings)
    found = CLASS_LOSSES.get(config.classification).per_row(torch.tensor([logits]), torch.tensor([column]), config)
    assert found.tolist() == pytest.approx([expected])


def test_focal_takes_all_anchors_but_the_doubtful():
    output = head(1)
    boxes, ids, valid = scene([2])
    losses = multibox_loss(
        output, ANCHORS, boxes, ids, valid, loss=LossConfig(classification="focal", negative_iou=0.4)
    )
    matches = match_anchors(ANCHORS, boxes, valid)
    taught = (matches.object_index >= 0) | (matches.best_iou < 0.4)
    assert not taught.all()
    _, logits = gradients(losses, output)
    assert torch.equal(logits[..., 1:].ne(0).all(dim=2), taught)
    assert logits[..., 0].eq(0).all()


@pytest.mark.parametrize(("kind", "apart"), [("giou", 1 + 1 / 3), ("diou", 1 + 0.4)])
def test_iou_losses_of_decoded_boxes(kind, apart):
    anchors = torch.tensor([[2.0, 1.0, 2.0, 2.0]] * 2)
    boxes = torch.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 0.0, 7.0, 2.0]])
    losses = BOX_LOSSES.get(kind)(torch.zeros(2, 4), boxes, anchors, CODER, LossConfig(box=kind))
    assert losses.tolist() == pytest.approx([0.0, apart])


def test_smooth_l1_turns_at_beta():
    anchors, box = torch.tensor([[2.0, 1.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    for beta, expected in ((1.0, 0.125 + 1.5), (0.1, 0.45 + 1.95)):
        config = LossConfig(smooth_l1_beta=beta)
        loss = BOX_LOSSES.get("smooth_l1")(torch.tensor([[0.5, 2.0, 0.0, 0.0]]), box, anchors, CODER, config)
        assert loss.item() == pytest.approx(expected)


def test_doubtful_anchors_are_not_mined():
    output = head(1)
    boxes, ids, valid = scene([3])
    strict = LossConfig(negative_ratio=1000.0, negative_iou=0.2)
    _, logits = gradients(multibox_loss(output, ANCHORS, boxes, ids, valid, loss=strict), output)
    matches = match_anchors(ANCHORS, boxes, valid)
    assert torch.equal(logits.ne(0).any(dim=2), (matches.object_index >= 0) | (matches.best_iou < 0.2))
