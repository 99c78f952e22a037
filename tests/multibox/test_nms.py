from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot.core.nms_kinds import NmsConfig
from singleshot.multibox import nms as module
from singleshot.multibox import plain
from singleshot.multibox.nms import greedy_nms, nms, ragged_ranges

ROW = [[float(x), 0.0, x + 4.0, 4.0] for x in (0, 1, 2, 3, 4, 20)]


def test_no_boxes():
    assert nms(torch.zeros(0, 4), torch.zeros(0)).tolist() == []
    assert nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long()).tolist() == []


@pytest.mark.parametrize(
    ("scores", "classes", "threshold", "compare", "kept"),
    [
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], None, 0.5, ">", [0, 2, 4, 5]),
        ([0.4, 0.5, 0.6, 0.7, 0.8, 0.9], None, 0.5, ">", [5, 4, 2, 0]),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [0, 1, 0, 1, 0, 1], 0.3, ">", [0, 1, 4, 5]),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [-7, 9, 9, 9, 9, 9], 0.0, ">", [0, 1, 5]),
        ([0.5] * 6, None, 0.5, ">", [0, 2, 4, 5]),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], None, 0.6, ">", [0, 1, 2, 3, 4, 5]),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], None, 0.6, ">=", [0, 2, 4, 5]),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], None, 1.0, ">=", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_survivors(scores, classes, threshold, compare, kept):
    ids = None if classes is None else torch.tensor(classes)
    assert nms(torch.tensor(ROW), torch.tensor(scores), ids, threshold, compare).tolist() == kept


def test_a_chain_longer_than_any_usual_one():
    steps = torch.arange(300.0)
    chain = torch.stack([steps, torch.zeros(300), steps + 2, torch.ones(300)], dim=1)
    assert nms(chain, -steps, iou_threshold=0.3).tolist() == list(range(0, 300, 2))


def test_boxes_without_area_or_number_suppress_nothing():
    boxes = torch.tensor([[1.0, 1.0, 1.0, 1.0]] * 2 + [[torch.nan] * 4] * 2 + [[3.0, 3.0, 1.0, 1.0]] * 2)
    assert nms(boxes, torch.arange(6.0), iou_threshold=0.0).tolist() == [5, 4, 3, 2, 1, 0]


def crowd(seed, count, kinds):
    """Whole-number boxes and coarse scores: many ties, overlaps exactly at thresholds."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 14, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 8, (count, 2))], axis=1).astype(np.float32)
    scores = (rng.integers(0, 12, count) / 16).astype(np.float32)
    return torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(rng.integers(0, kinds, count))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(0, 60), st.integers(1, 4), st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    st.sampled_from([">", ">="]),
)  # fmt: skip
def test_equals_the_plain_greedy_pass(seed, count, kinds, threshold, compare):
    boxes, scores, ids = crowd(seed, count, kinds)
    expected = plain.nms(boxes.tolist(), scores.tolist(), ids.tolist(), threshold, compare)
    if threshold == 0 and compare == ">=":
        return  # boxes that do not touch have an IoU of exactly 0: the plain pass counts only what touches
    assert nms(boxes, scores, ids, threshold, compare).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([1, 3, 17, 512]), st.sampled_from([None, 1, 7]),
    st.sampled_from([None, 1, 3]), st.sampled_from([None, 1, 5, 100]),
)  # fmt: skip
def test_limits_and_block_sizes(seed, block, top_k, per_group, per_image):
    boxes, scores, ids = crowd(seed, 90, 3)
    images = torch.from_numpy(np.sort(np.random.default_rng(seed).choice([0, 2, 3], 90)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        config = NmsConfig(0.25, ">", top_k, per_group, per_image)
        found = greedy_nms(scores, images, images * 3 + ids, lambda rows: boxes[rows], config)
    expected = []
    for image in range(4):
        kept = []
        for kind in range(3):
            rows = [i for i in range(90) if images[i] == image and ids[i] == kind]
            rows = sorted(rows, key=lambda i: -scores[i])[:top_k]
            part = plain.nms(boxes[rows].tolist(), scores[rows].tolist(), [0] * len(rows), 0.25)
            kept += [rows[i] for i in part][:per_group]
        expected += sorted(sorted(kept), key=lambda i: -scores[i])[:per_image]
    assert found.rows.tolist() == expected
    assert torch.equal(found.boxes_xyxy, boxes[expected])


def test_an_image_that_is_full_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK", 10)
    count = 1000
    boxes = torch.arange(float(count))[:, None] * 10 + torch.tensor([0.0, 0.0, 5.0, 5.0])
    decoded = []

    def boxes_of(rows):
        decoded.append(len(rows))
        return boxes[rows]

    zeros = torch.zeros(count).long()
    kept = greedy_nms(torch.rand(count), zeros, zeros, boxes_of, NmsConfig(0.5, max_per_image=15))
    assert len(kept.rows) == 15
    assert decoded == [10, 10]


def test_ragged_ranges():
    owners, numbers = ragged_ranges(torch.tensor([5, 9, 0, 2]), torch.tensor([2, 0, 1, 3]))
    assert owners.tolist() == [0, 0, 2, 3, 3, 3]
    assert numbers.tolist() == [5, 6, 0, 2, 3, 4]
    assert [len(x) for x in ragged_ranges(torch.zeros(0).long(), torch.zeros(0).long())] == [0, 0]
