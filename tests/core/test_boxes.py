from __future__ import annotations

import pytest
import torch

from singleshot.core.boxes import (
    aligned_iou,
    box_area,
    clip_to_image,
    cxcywh_to_xyxy,
    diou_penalty,
    giou_penalty,
    pairwise_iou,
    xyxy_to_cxcywh,
)

BOX = [10.0, 20.0, 30.0, 60.0]
PAIRS = [
    ([0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], 1.0),
    ([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], 1 / 3),
    ([0.0, 0.0, 2.0, 2.0], [2.0, 0.0, 4.0, 2.0], 0.0),
    ([0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0], 0.0),
    ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], 0.0),
    ([2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 2.0], 0.0),
    ([2.0, 0.0, 0.0, 2.0], [2.0, 0.0, 0.0, 2.0], 0.0),
    ([0.0, -torch.inf, 0.0, torch.inf], [0.0, 0.0, 1.0, 1.0], 0.0),
]


def test_no_boxes():
    none = torch.zeros(0, 4)
    assert pairwise_iou(none, torch.zeros(3, 4)).shape == (0, 3)
    assert pairwise_iou(torch.zeros(2, 5, 4), torch.zeros(2, 0, 4)).shape == (2, 5, 0)
    assert xyxy_to_cxcywh(none).shape == cxcywh_to_xyxy(none).shape == (0, 4)
    assert aligned_iou(none, none).shape == (0,)


@pytest.mark.parametrize(("a", "b", "expected"), PAIRS)
def test_iou(a, b, expected):
    first, second = torch.tensor([a]), torch.tensor([b])
    assert pairwise_iou(first, second).item() == pytest.approx(expected)
    assert pairwise_iou(second, first).item() == pytest.approx(expected)
    if torch.isfinite(first).all():
        assert aligned_iou(first, second).item() == pytest.approx(expected)


def test_pairwise_broadcasts_over_leading_dimensions():
    boxes = torch.rand(3, 1, 6, 4).sort(dim=-1).values
    anchors = torch.rand(5, 4).sort(dim=-1).values
    assert torch.equal(pairwise_iou(boxes, anchors)[2, 0], pairwise_iou(boxes[2, 0], anchors))


def test_formats_are_inverse():
    assert xyxy_to_cxcywh(torch.tensor(BOX)).tolist() == [20.0, 40.0, 20.0, 40.0]
    assert cxcywh_to_xyxy(xyxy_to_cxcywh(torch.tensor(BOX))).tolist() == BOX


def test_area_of_an_inverted_box_is_nothing():
    assert box_area(torch.tensor([BOX, [30.0, 20.0, 10.0, 60.0]])).tolist() == [800.0, 0.0]


def test_clip():
    outside = torch.tensor([[-5.0, 3.0, 500.0, 400.0]])
    assert clip_to_image(outside, (300, 200)).tolist() == [[0.0, 3.0, 200.0, 300.0]]


@pytest.mark.parametrize(
    ("a", "b", "giou", "diou"),
    [
        ([0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], 0.0, 0.0),
        ([0.0, 0.0, 1.0, 1.0], [3.0, 0.0, 4.0, 1.0], 0.5, 9 / 17),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], 0.0, 0.0),
    ],
)
def test_penalties(a, b, giou, diou):
    first, second = torch.tensor([a], requires_grad=True), torch.tensor([b])
    penalties = giou_penalty(first, second), diou_penalty(first, second)
    assert [p.item() for p in penalties] == [pytest.approx(giou), pytest.approx(diou)]
    (penalties[0] + penalties[1] + aligned_iou(first, second)).sum().backward()
    assert first.grad is not None
    assert first.grad.isfinite().all()
