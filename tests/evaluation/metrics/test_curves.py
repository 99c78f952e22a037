from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from singleshot.evaluation.metrics.curves import (
    GRID,
    best_common_threshold,
    best_point,
    f1_on_grid,
    mean_of_defined,
    precision_on_grid,
)
from singleshot.evaluation.metrics.voc import Curve


def curve(scores: list[float], marks: list[int], objects: int) -> Curve:
    return Curve(np.array(scores), np.cumsum(np.array(marks, dtype=int)), objects)


def test_nothing_found() -> None:
    empty = curve([], [], 3)
    assert precision_on_grid(empty).tolist() == [0] * 101
    assert f1_on_grid(empty).tolist() == [0] * 101
    assert best_point(empty) == (0, 0, 0, 0)


def test_nothing_to_find() -> None:
    idle = curve([0.5], [0], 0)
    assert np.isnan(precision_on_grid(idle)).all()
    assert np.isnan(f1_on_grid(idle)).all()
    assert best_point(idle) == (0, 0, 0, 0)
    assert np.isnan(best_common_threshold([idle])[1])


def test_precision_is_the_envelope() -> None:
    grid = precision_on_grid(curve([0.9, 0.8, 0.7], [1, 0, 1], 2))
    assert grid[50] == 1
    assert grid[51] == pytest.approx(2 / 3)
    assert grid[100] == pytest.approx(2 / 3)


def test_f1_counts_scores_from_the_threshold_on() -> None:
    grid = f1_on_grid(curve([0.9, 0.5, 0.2], [1, 1, 0], 2))
    assert grid[0] == pytest.approx(4 / 5)
    assert grid[50] == 1
    assert grid[51] == pytest.approx(2 / 3)
    assert grid[95] == 0


def test_equal_scores_cannot_be_told_apart_by_a_threshold() -> None:
    point = best_point(curve([0.9, 0.9, 0.9], [1, 0, 0], 1))
    assert point == pytest.approx((0.9, 0.5, 1 / 3, 1.0))


def test_the_common_threshold_serves_all_classes() -> None:
    threshold, f1 = best_common_threshold(
        [curve([0.9, 0.3], [1, 0], 1), curve([0.6, 0.5], [1, 0], 1), curve([], [], 0)]
    )
    assert threshold == pytest.approx(0.51)
    assert f1 == 1


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=30), st.integers(1, 40))
def test_best_point_is_the_best_threshold(found: list[tuple[int, bool]], extra: int) -> None:
    found = sorted(found, key=lambda pair: -pair[0])
    right = sum(mark for _, mark in found)
    objects = right + extra
    grid_curve = curve([score / 100 for score, _ in found], [int(mark) for _, mark in found], objects)
    # every score lies on the grid, so the grid sees every distinct threshold
    assert best_point(grid_curve).f1 == pytest.approx(f1_on_grid(grid_curve).max())
    for index in (0, 37, 100):
        kept = [mark for score, mark in found if score >= index]
        assert f1_on_grid(grid_curve)[index] == pytest.approx(2 * sum(kept) / (len(kept) + objects))
    assert GRID[37] == 0.37


def test_mean_skips_the_undefined() -> None:
    assert mean_of_defined(np.array([1.0, np.nan, 0.0])) == 0.5
    assert np.isnan(mean_of_defined(np.array([np.nan])))
