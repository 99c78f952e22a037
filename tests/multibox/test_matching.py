from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from singleshot.core.boxes import cxcywh_to_xyxy, pairwise_iou
from singleshot.core.settings import MatchConfig
from singleshot.multibox import plain
from singleshot.multibox.matching import (
    _join_mutual_best,
    _level_first_choices,
    _propose,
    _round_iou,
    greedy_bipartite,
    match_anchors,
    match_boxes,
)

# Four anchors in a row; the first two overlap by half.
ANCHORS = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 4.0], [6.0, 0.0, 10.0, 4.0], [20.0, 0.0, 24.0, 4.0]])


def match(objects, **options):
    boxes = torch.tensor(objects).reshape(1, -1, 4)
    found = match_boxes(ANCHORS, boxes, torch.ones(boxes.shape[:2], dtype=torch.bool), MatchConfig(**options))
    return found.object_index[0].tolist(), found.best_iou[0].tolist()


def test_no_objects():
    assert match([]) == ([-1] * 4, [0.0] * 4)


def test_padding_is_no_object():
    boxes = torch.zeros(2, 3, 4)
    boxes[1] = ANCHORS[2]
    valid = torch.tensor([[False] * 3, [False, True, False]])
    found = match_boxes(ANCHORS, boxes, valid)
    assert found.object_index.tolist() == [[-1] * 4, [-1, -1, 1, -1]]
    assert found.best_iou[0].eq(0).all()


@pytest.mark.parametrize(
    ("objects", "options", "expected"),
    [
        ([[0.0, 0.0, 4.0, 4.0]], {}, [0, -1, -1, -1]),
        ([[40.0, 0.0, 44.0, 4.0]], {}, [-1] * 4),
        ([[40.0, 0.0, 44.0, 4.0]], {"forced": "last_wins"}, [0, -1, -1, -1]),
        ([[0.0, 0.0, 1.0, 1.0]], {}, [0, -1, -1, -1]),
        ([[0.0, 0.0, 1.0, 1.0]], {"forced": "none"}, [-1] * 4),
        ([[0.0, 0.0, 1.0, 1.0]], {"min_forced_iou": 0.1}, [-1] * 4),
        ([[0.0, 0.0, 2.0, 4.0]], {"forced": "none"}, [0, -1, -1, -1]),
        ([[0.0, 0.0, 2.0, 4.0]], {"forced": "none", "compare": ">"}, [-1] * 4),
        ([[1.0, 0.0, 5.0, 4.0]], {"positive_iou": None}, [0, -1, -1, -1]),
        ([[1.0, 0.0, 5.0, 4.0]], {}, [0, 0, -1, -1]),
    ],
)
def test_single_objects(objects, options, expected):
    assert match(objects, **options)[0] == expected


def test_objects_with_one_best_anchor():
    twins = [[6.0, 0.0, 10.0, 4.0], [6.0, 0.0, 9.0, 4.0]]
    assert match(twins, positive_iou=None)[0] == [-1, -1, 0, -1]
    assert match(twins, positive_iou=None, forced="last_wins")[0] == [-1, -1, 1, -1]
    rivals = [[0.0, 0.0, 4.0, 4.0], [0.5, 0.0, 4.5, 4.0]]
    assert match(rivals, positive_iou=None)[0] == [0, 1, -1, -1]
    assert match(rivals, positive_iou=None, forced="last_wins")[0] == [1, -1, -1, -1]


def test_equal_objects_take_anchors_in_order():
    assert match([[0.0, 0.0, 4.0, 4.0]] * 3, positive_iou=None)[0] == [0, 1, -1, -1]


def test_best_iou_is_over_all_objects():
    best = match([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 2.0]])[1]
    assert best == pytest.approx([1.0, 0.5, 0.0, 0.0])


def random_boxes(rng, *shape):
    corner = rng.integers(0, 12, (*shape, 2))
    return torch.from_numpy(np.concatenate([corner, corner + rng.integers(0, 9, (*shape, 2))], -1).astype(np.float32))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 25), st.integers(0, 6), st.sampled_from([None, 0.0, 0.5, 0.25, 1.0]),
    st.sampled_from([">=", ">"]), st.sampled_from(["bipartite", "last_wins", "none"]),
)  # fmt: skip
def test_equals_the_plain_reading(seed, anchors, objects, positive_iou, compare, forced):
    rng = np.random.default_rng(seed)
    cells, boxes = random_boxes(rng, anchors), random_boxes(rng, 3, objects)
    valid = torch.from_numpy(rng.random((3, objects)) < 0.7)
    config = MatchConfig(positive_iou=positive_iou, compare=compare, forced=forced, ties="literal")
    found = match_boxes(cells, boxes, valid, config)
    for b in range(3):
        rows = valid[b].nonzero().squeeze(1).tolist()
        table = pairwise_iou(cells, boxes[b, rows]).tolist()
        chosen = plain.match(table, positive_iou, compare, forced)
        assert found.object_index[b].tolist() == [rows[m] if m >= 0 else -1 for m in chosen]
        assert found.best_iou[b].tolist() == [max(row, default=0.0) for row in table]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.integers(2, 30))
def test_greedy_bipartite_equals_the_plain_reading(seed, objects, anchors, values):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, values, (2, objects, anchors)).astype(np.float32))
    found = greedy_bipartite(scores, 0.0)
    for b in range(2):
        chosen = plain.match(scores[b].T.tolist(), None, min_forced_iou=0.0)
        anchor_of = {m: a for a, m in enumerate(chosen) if m >= 0}
        assert found[b].tolist() == [anchor_of.get(m, -1) for m in range(objects)]


def test_each_image_may_have_anchors_of_its_own():
    generator = torch.Generator().manual_seed(0)
    anchors = torch.rand(2, 30, 4, generator=generator) * 20 + 1
    boxes = torch.rand(2, 4, 4, generator=generator).sort(dim=-1).values * 20
    valid = torch.tensor([[True] * 4, [True, False, True, False]])
    both = match_anchors(anchors, boxes, valid)
    for b in range(2):
        alone = match_anchors(anchors[b], boxes[b : b + 1], valid[b : b + 1])
        assert torch.equal(both.object_index[b], alone.object_index[0])
        assert torch.equal(both.best_iou[b], alone.best_iou[0])


def test_a_box_of_nan_matches_nothing():
    boxes = torch.tensor([[[0.0, 0.0, 4.0, 4.0], [torch.nan] * 4]])
    found = match_boxes(ANCHORS, boxes, torch.ones(1, 2, dtype=torch.bool))
    assert found.object_index[0].tolist() == [0, -1, -1, -1]


def test_anchors_given_by_centre():
    centred = torch.tensor([[2.0, 2.0, 4.0, 4.0]])
    assert torch.equal(cxcywh_to_xyxy(centred), ANCHORS[:1])
    assert match_anchors(centred, ANCHORS[None, :1], torch.ones(1, 1, dtype=torch.bool)).best_iou.item() == 1.0


@pytest.mark.parametrize("objects", [0, 1, 7, 40])
@pytest.mark.parametrize("values", [2, 5, 10_000])
def test_both_forms_of_greedy_matching_agree(objects, values):
    """Few values make many ties, which go to the lowest anchor and then to the lowest object."""
    scores = torch.from_numpy(np.random.default_rng(objects).integers(0, values, (3, objects, 90))).float() / values
    images = torch.arange(3).repeat_interleave(objects)
    one = _propose(scores.flatten(0, 1), images, 0.0)
    other = _join_mutual_best(scores.flatten(0, 1).clone(), images, objects, 0.0)
    assert one.tolist() == other.tolist()


def test_a_dense_scene():
    """As many equal objects as there are anchors: each takes the best that those before it leave."""
    rng = np.random.default_rng(0)
    anchors = random_boxes(rng, 300)
    boxes = torch.tensor([[0.0, 0.0, 100.0, 100.0]]).repeat(1, 400, 1)
    found = match_boxes(anchors, boxes, torch.ones(1, 400, dtype=torch.bool), MatchConfig(positive_iou=None))
    iou = pairwise_iou(boxes[0, :1], anchors)[0]
    ranking = iou.sort(descending=True, stable=True).indices[: int((iou > 0).sum())]
    expected = torch.full((300,), -1)
    expected[ranking] = torch.arange(len(ranking))
    assert found.object_index[0].tolist() == expected.tolist()


def test_a_batch_too_large_for_the_memory_is_matched_in_parts(monkeypatch):
    rng = np.random.default_rng(1)
    anchors, boxes = random_boxes(rng, 50), random_boxes(rng, 5, 4)
    valid = torch.from_numpy(rng.random((5, 4)) < 0.7)
    whole = match_boxes(anchors, boxes, valid)
    monkeypatch.setattr("singleshot.multibox.matching.MOST_PAIRS", 400)
    parts = match_boxes(anchors, boxes, valid)
    assert torch.equal(whole.object_index, parts.object_index)
    assert torch.equal(whole.best_iou, parts.best_iou)
    own = match_boxes(anchors.repeat(5, 1, 1), boxes, valid)
    assert torch.equal(whole.object_index, own.object_index)


def grid_scene(seed):
    """Anchors in regular places and objects between them, so that many IoUs are equal, in quarters of a pixel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[4:64:8, 4:64:8].reshape(2, -1)
    anchors = np.concatenate([np.stack([x, y, w + 0 * x, h + 0 * y], 1) for w, h in ((10, 10), (14, 7), (7, 14))])
    centres, sizes = rng.integers(0, 16, (2, 5, 2)) * 4, rng.integers(1, 25, (2, 5, 2))
    objects = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=-1)
    return cxcywh_to_xyxy(torch.from_numpy(anchors).double()), torch.from_numpy(objects), rng.random((2, 5)) < 0.8


FORCED = pytest.mark.parametrize("forced", ["bipartite", "last_wins", "none"])


@FORCED
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), noise=st.sampled_from([0.0, 1e-7]), scale=st.sampled_from([1.0, 1 / 300, 7.3]))
def test_near_ties_do_not_depend_on_rounding(forced, seed, noise, scale):
    """Unit, place, precision, padding and order of the images change nothing; nor do corners a little off."""
    anchors, boxes, mask = grid_scene(seed)
    valid, config = torch.from_numpy(mask), MatchConfig(forced=forced)
    expected = match_boxes(anchors, boxes, valid, config).object_index
    rng = np.random.default_rng(seed)
    moved = [(t + torch.from_numpy(rng.uniform(-noise, noise, t.shape)) * 64 + 256) * scale for t in (anchors, boxes)]
    for dtype in (torch.float32, torch.float64):
        cells, objects = (t.to(dtype) for t in moved)
        assert torch.equal(match_boxes(cells, objects, valid, config).object_index, expected)
        padded = match_boxes(cells, pad(objects.flip(0), (0, 0, 0, 3)), pad(valid.flip(0), (0, 3)), config)
        assert torch.equal(padded.object_index.flip(0), expected)


def test_literal_ties_are_decided_by_the_last_bit():
    above = torch.tensor(0.5).nextafter(torch.tensor(1.0)).item()
    anchors = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, above, 1.0]])
    box, valid = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]), torch.ones(1, 1, dtype=torch.bool)
    for forced in ("bipartite", "last_wins"):
        for ties, expected in (("literal", [-1, 0]), ("near", [0, -1])):
            found = match_boxes(anchors, box, valid, MatchConfig(positive_iou=0.9, forced=forced, ties=ties))
            assert found.object_index[0].tolist() == expected


@pytest.mark.parametrize("threshold", [0.5, 0.45, 0.35, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("step", [-1, 0, 1])
def test_an_iou_at_the_threshold_reaches_it_however_it_rounds(threshold, step):
    width = torch.tensor(threshold).nextafter(torch.tensor(float(step) * 2 if step else threshold)).item()
    box, valid = torch.tensor([[[0.0, 0.0, min(width, 1.0), 1.0]]]), torch.ones(1, 1, dtype=torch.bool)
    anchor = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    found = match_boxes(anchor, box, valid, MatchConfig(positive_iou=threshold, forced="none"))
    assert found.object_index.tolist() == [[0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounded_ious_stay_near_and_in_order(dtype):
    iou = torch.tensor([0.0, 1e-30, 1e-6, 0.1, 0.3, 0.49999997, 0.5, 0.50000003, 0.99999994, 1.0], dtype=dtype)
    rounded = _round_iou(iou.clone())
    assert rounded.tolist() == pytest.approx(iou.tolist(), rel=2**-15, abs=0)
    assert rounded.diff().ge(0).all()
    assert rounded[5:8].tolist() == [0.5] * 3
    assert rounded[-2:].tolist() == [1.0] * 2


def test_first_choices_are_levelled_object_by_object():
    step = 2**-15  # from 0.5 on; half as much below
    iou = torch.tensor([[0.5, 0.5 + step, 0.5 - step / 2, 0.0], [0.5 - step / 2, 0.5, 0.5 - step, 0.25]])
    expected = [[0.5 + step, 0.5 + step, 0.5 - step / 2, 0.0], [0.5, 0.5, 0.5 - step, 0.25]]
    assert _level_first_choices(iou).tolist() == expected
