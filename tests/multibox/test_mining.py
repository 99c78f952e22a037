from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot.multibox.mining import mine_negatives, wanted_negatives


def test_nothing_to_mine():
    assert mine_negatives(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), torch.tensor([3, 3])).shape == (2, 0)
    assert mine_negatives(torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.bool), torch.zeros(0).long()).shape == (0, 4)


@pytest.mark.parametrize(
    ("positives", "ratio", "minimum", "wanted"),
    [(0, 3.0, 0, 0), (0, 3.0, 5, 5), (2, 3.0, 5, 6), (5, 0.5, 0, 2), (10, 0.7, 0, 7)],
)
def test_wanted(positives, ratio, minimum, wanted):
    assert wanted_negatives(torch.tensor([positives]), ratio, minimum).tolist() == [wanted]


@pytest.mark.parametrize(
    ("hardness", "candidates", "wanted", "chosen"),
    [
        ([1.0, 3.0, 2.0], [1, 1, 1], 2, [1, 2]),
        ([1.0, 3.0, 2.0], [1, 0, 1], 1, [2]),
        ([1.0, 3.0, 2.0], [1, 0, 1], 9, [0, 2]),
        ([1.0, 3.0, 2.0], [1, 1, 1], 0, []),
        ([5.0, 5.0, 5.0, 5.0], [1, 1, 1, 1], 2, [0, 1]),
        ([5.0, 5.0, 9.0, 5.0], [0, 1, 1, 1], 2, [1, 2]),
        ([torch.inf, 1.0, torch.inf], [1, 1, 1], 1, [0]),
        ([-torch.inf, 1.0, -torch.inf], [1, 1, 1], 2, [0, 1]),
    ],
)
def test_chosen(hardness, candidates, wanted, chosen):
    mask = mine_negatives(torch.tensor([hardness]), torch.tensor([candidates]).bool(), torch.tensor([wanted]))
    assert mask[0].nonzero().squeeze(1).tolist() == chosen


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 50))
def test_equals_a_stable_sort(seed, anchors, values):
    rng = np.random.default_rng(seed)
    hardness = rng.integers(0, values, (3, anchors)).astype(np.float32)
    candidates = rng.random((3, anchors)) < 0.6
    wanted = rng.integers(0, anchors + 3, 3)
    mask = mine_negatives(*(torch.from_numpy(x) for x in (hardness, candidates, wanted)))
    for b in range(3):
        order = sorted(np.flatnonzero(candidates[b]), key=lambda a, b=b: -hardness[b, a])
        assert mask[b].nonzero().squeeze(1).tolist() == sorted(order[: wanted[b]])
