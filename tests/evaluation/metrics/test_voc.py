from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_references import invent, loop_voc

from singleshot.evaluation.metrics import DetectionTable, GroundTruth
from singleshot.evaluation.metrics.voc import Curve, average_precision, class_curves, match_voc

SQUARE = [0.0, 0, 10, 10]
HALF = [0.0, 0, 10, 5]
"""IoU 0.5 with SQUARE exactly; 66 / 121 with pixel-inclusive borders."""


def objects(*boxes: list[float], images: int = 1, difficult: list[bool] | None = None) -> GroundTruth:
    count = len(boxes)
    flags = np.array(difficult or [False] * count, dtype=bool)
    return GroundTruth(np.zeros(count, int), np.zeros(count, int), np.array(boxes).reshape(-1, 4), images, flags)


def found(*boxes: list[float], scores: list[float] | None = None) -> DetectionTable:
    count = len(boxes)
    ranks = np.array(scores or np.linspace(0.9, 0.1, count), dtype=float)
    return DetectionTable(np.zeros(count, int), np.zeros(count, int), np.array(boxes).reshape(-1, 4), ranks)


@pytest.mark.parametrize(
    ("truth", "table", "outcome"),
    [
        pytest.param(objects(), found(), [], id="nothing"),
        pytest.param(objects(SQUARE), found(), [], id="no detection"),
        pytest.param(objects(), found(SQUARE), [0], id="no object"),
        pytest.param(objects(SQUARE), found(SQUARE), [1], id="exact"),
        pytest.param(objects(SQUARE), found(HALF), [1], id="exactly one half"),
        pytest.param(objects(SQUARE), found(SQUARE, SQUARE), [1, 0], id="twice"),
        pytest.param(objects(SQUARE), found(HALF, SQUARE, scores=[0.2, 0.8]), [0, 1], id="the better score wins"),
        pytest.param(objects(SQUARE), found(SQUARE, SQUARE, scores=[0.5, 0.5]), [1, 0], id="equal scores: first row"),
        pytest.param(objects(SQUARE, difficult=[True]), found(SQUARE, SQUARE), [-1, -1], id="difficult"),
        pytest.param(objects(SQUARE, [0, 0, 10, 9]), found(SQUARE, SQUARE), [1, 0], id="looks only at its best object"),
    ],
)
def test_outcomes(truth: GroundTruth, table: DetectionTable, outcome: list[int]) -> None:
    assert match_voc(truth, table).outcome.tolist() == outcome


def test_other_images_and_classes_do_not_match() -> None:
    truth = GroundTruth(np.array([0, 1]), np.array([0, 1]), np.array([SQUARE, SQUARE]), 2)
    table = DetectionTable(np.array([0, 1, 0, 1]), np.array([1, 0, 0, 1]), np.array([SQUARE] * 4), np.full(4, 0.5))
    matching = match_voc(truth, table)
    assert matching.outcome.tolist() == [0, 0, 1, 1]
    assert matching.objects.tolist() == [-1, -1, 0, 1]


def test_strict_comparison_refuses_one_half() -> None:
    assert match_voc(objects(SQUARE), found(HALF), compare=">").outcome.tolist() == [0]


def test_pixel_inclusive_boxes_are_one_larger() -> None:
    nearly = [0.0, 0, 10, 4.6]  # 0.46 without, 11 * 5.6 / 121 = 0.509 with
    assert match_voc(objects(SQUARE), found(nearly)).outcome.tolist() == [0]
    assert match_voc(objects(SQUARE), found(nearly), pixel_inclusive=True).outcome.tolist() == [1]


@pytest.mark.parametrize(
    ("marks", "total", "eleven", "area", "integral"),
    [
        ([], 2, 0.0, 0.0, 0.0),
        ([1], 1, 1.0, 1.0, 1.0),
        ([0, 1], 1, 0.5, 0.5, 0.5),
        # recalls 1/2, 1/2, 1; precisions 1, 1/2, 2/3: six thresholds up to 0.5, five above
        ([1, 0, 1], 2, (6 + 5 * 2 / 3) / 11, 1 / 2 + 1 / 3, 1 / 2 + 1 / 3),
        # the envelope lifts the first 1/2 to 2/3
        ([0, 1, 1], 2, 2 / 3, 2 / 3, 1 / 4 + 1 / 3),
        # recall 3/10 reaches t = 3/10: four thresholds
        ([1, 1, 1], 10, 4 / 11, 0.3, 0.3),
        ([1] * 6, 10, 7 / 11, 0.6, 0.6),
    ],
)
def test_average_precision(marks: list[int], total: int, eleven: float, area: float, integral: float) -> None:
    curve = Curve(np.linspace(1, 0, len(marks)), np.cumsum(np.array(marks, dtype=int)), total)
    assert average_precision(curve, "11point") == pytest.approx(eleven, abs=1e-12)
    assert average_precision(curve, "area") == pytest.approx(area, abs=1e-12)
    assert average_precision(curve, "integral") == pytest.approx(integral, abs=1e-12)


def test_a_class_without_objects_has_no_precision() -> None:
    assert np.isnan(average_precision(Curve(np.array([0.5]), np.array([0]), 0)))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 8),
    strict=st.booleans(),
    inclusive=st.booleans(),
    equal=st.booleans(),
)
def test_equals_the_loop(seed: int, images: int, strict: bool, inclusive: bool, equal: bool) -> None:
    truth, table = invent(seed, images, 3, whole_pixels=equal, equal_scores=equal, difficult=0.2)
    matching = match_voc(truth, table, compare=">" if strict else ">=", pixel_inclusive=inclusive)
    for label, curve in enumerate(class_curves(truth, table, matching, 3)):
        mine = [average_precision(curve, "11point"), average_precision(curve, "area")]
        loop = loop_voc(truth, table, label, strict=strict, extra=float(inclusive))
        np.testing.assert_allclose(mine, loop, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_of_rows_does_not_matter(seed: int) -> None:
    truth, table = invent(seed, 6, 2)
    rows = np.random.default_rng(seed).permutation(len(table))
    np.testing.assert_array_equal(match_voc(truth, table.take(rows)).outcome, match_voc(truth, table).outcome[rows])
