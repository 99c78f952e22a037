from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot.multibox import plain
from singleshot.multibox.mining import count_negatives, mine_negatives


def test_nothing_to_mine():
    assert mine_negatives(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), torch.tensor([3, 3])).shape == (2, 0)
    assert mine_negatives(torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.bool), torch.zeros(0).long()).shape == (0, 4)


@pytest.mark.parametrize(
    ("num_positives", "ratio", "minimum", "expected"),
    [(0, 3.0, 0, 0), (0, 3.0, 5, 5), (2, 3.0, 5, 6), (5, 0.5, 0, 2), (10, 0.7, 0, 7)],
)
def test_number_of_negatives(num_positives, ratio, minimum, expected):
    assert count_negatives(torch.tensor([num_positives]), ratio, minimum).tolist() == [expected]


@pytest.mark.parametrize(
    ("hardness", "eligible", "num_negatives", "chosen"),
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
def test_chosen(hardness, eligible, num_negatives, chosen):
    mask = mine_negatives(torch.tensor([hardness]), torch.tensor([eligible]).bool(), torch.tensor([num_negatives]))
    assert mask[0].nonzero().squeeze(1).tolist() == chosen


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 50))
def test_equals_the_plain_reading(seed, anchors, values):
    rng = np.random.default_rng(seed)
    hardness = rng.integers(0, values, (3, anchors)).astype(np.float32)
    eligible = rng.random((3, anchors)) < 0.6
    num_negatives = rng.integers(0, anchors + 3, 3)
    mask = mine_negatives(*(torch.from_numpy(x) for x in (hardness, eligible, num_negatives)))
    for b in range(3):
        chosen = plain.mine(hardness[b], np.flatnonzero(eligible[b]), num_negatives[b])
        assert mask[b].nonzero().squeeze(1).tolist() == sorted(chosen)
