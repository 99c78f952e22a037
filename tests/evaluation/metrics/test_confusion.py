from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_references import invent

from singleshot.evaluation.metrics import DetectionTable, GroundTruth
from singleshot.evaluation.metrics.confusion import confusion_matrix, pair_off
from singleshot.evaluation.metrics.overlaps import Pairs

A, B = [0.0, 0, 10, 10], [100.0, 100, 120, 120]


def scene(objects: list[tuple[list[float], int]], difficult: bool = False) -> GroundTruth:
    boxes = np.array([box for box, _ in objects]).reshape(-1, 4)
    labels = np.array([label for _, label in objects], dtype=int)
    return GroundTruth(np.zeros(len(labels), int), labels, boxes, 1, np.full(len(labels), difficult))


def found(*rows: tuple[list[float], int, float]) -> DetectionTable:
    boxes = np.array([row[0] for row in rows]).reshape(-1, 4)
    labels = np.array([row[1] for row in rows], dtype=int)
    return DetectionTable(np.zeros(len(rows), int), labels, boxes, np.array([row[2] for row in rows], dtype=float))


@pytest.mark.parametrize(
    ("truth", "table", "cells"),
    [
        pytest.param(scene([]), found(), {}, id="nothing"),
        pytest.param(scene([(A, 0)]), found(), {(0, 2): 1}, id="missed"),
        pytest.param(scene([]), found((A, 1, 0.9)), {(2, 1): 1}, id="invented"),
        pytest.param(scene([(A, 0)]), found((A, 0, 0.9)), {(0, 0): 1}, id="right"),
        pytest.param(scene([(A, 0)]), found((A, 1, 0.9)), {(0, 1): 1}, id="taken for another"),
        pytest.param(scene([(A, 0)]), found((A, 0, 0.1)), {(0, 2): 1}, id="below the threshold"),
        pytest.param(scene([(A, 0)]), found((A, 0, 0.5)), {(0, 0): 1}, id="at the threshold"),
        pytest.param(scene([(A, 0)]), found((A, 0, 0.9), (A, 0, 0.8)), {(0, 0): 1, (2, 0): 1}, id="twice"),
        pytest.param(scene([(A, 0)], difficult=True), found((A, 0, 0.9)), {}, id="difficult"),
        pytest.param(scene([(A, 0)], difficult=True), found(), {}, id="difficult, missed"),
        pytest.param(scene([(A, 0), (A, 1)]), found((A, 1, 0.9), (A, 0, 0.8)), {(0, 0): 1, (1, 1): 1}, id="same class"),
        pytest.param(scene([(A, 0), (B, 1)]), found((B, 1, 0.9)), {(0, 2): 1, (1, 1): 1}, id="two objects"),
    ],
)
def test_cells(truth: GroundTruth, table: DetectionTable, cells: dict[tuple[int, int], int]) -> None:
    expected = np.zeros((3, 3), dtype=int)
    for cell, count in cells.items():
        expected[cell] = count
    np.testing.assert_array_equal(confusion_matrix(truth, table, 2, score_threshold=0.5), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_pairing_off_equals_greedy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = np.argwhere(rng.random((9, 7)) < 0.5)
    worth = rng.integers(0, 6, len(cells)) / 5  # many equal ones
    chosen = pair_off(Pairs(cells[:, 0], cells[:, 1], worth), worth)
    rows: set[int] = set()
    columns: set[int] = set()
    expected = []
    for index in np.argsort(-worth, kind="stable"):
        row, column = cells[index].tolist()
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            expected.append((row, column))
    assert list(zip(chosen.detections.tolist(), chosen.objects.tolist(), strict=True)) == sorted(expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_every_object_and_detection_is_counted_once(seed: int) -> None:
    truth, table = invent(seed, 8, 3)
    matrix = confusion_matrix(truth, table, 3, score_threshold=0.4)
    np.testing.assert_array_equal(matrix[:3].sum(axis=1), np.bincount(truth.class_ids, minlength=3))
    kept = table.class_ids[table.scores >= 0.4]
    np.testing.assert_array_equal(matrix[:, :3].sum(axis=0), np.bincount(kept, minlength=3))
