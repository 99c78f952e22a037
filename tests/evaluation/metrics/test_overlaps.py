from __future__ import annotations

import numpy as np
import pytest
from metric_references import invent, loop_iou

from singleshot.evaluation.metrics import DetectionTable, GroundTruth, evaluate_detections, overlaps
from singleshot.evaluation.metrics.overlaps import best_of_segments, overlapping_pairs, segment_starts


def test_no_boxes_no_pairs() -> None:
    truth = GroundTruth(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), 3)
    table = DetectionTable(np.zeros(2, int), np.zeros(2, int), np.ones((2, 4)), np.zeros(2))
    assert all(len(column) == 0 for column in overlapping_pairs(truth, table, 0.5))


@pytest.mark.parametrize("same_class", [True, False])
def test_finds_what_two_loops_find(same_class: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlaps, "PAIRS_AT_ONCE", 7)
    truth, table = invent(1, 6, 3)
    found = overlapping_pairs(truth, table, 0.3, same_class=same_class)
    expected = [
        (row, object)
        for row in range(len(table))
        for object in range(len(truth))
        if table.image_index[row] == truth.image_index[object]
        and (not same_class or table.class_ids[row] == truth.class_ids[object])
        and loop_iou(table.boxes_xyxy[row], truth.boxes_xyxy[object], 0) >= 0.3
    ]
    assert list(zip(found.detections.tolist(), found.objects.tolist(), strict=True)) == expected
    wanted = [loop_iou(table.boxes_xyxy[row], truth.boxes_xyxy[object], 0) for row, object in expected]
    np.testing.assert_allclose(found.overlaps, wanted)


def test_boxes_without_area_overlap_nothing() -> None:
    point = np.array([[5.0, 5, 5, 5]])
    truth = GroundTruth(np.zeros(1, int), np.zeros(1, int), point, 1)
    table = DetectionTable(np.zeros(1, int), np.zeros(1, int), point, np.ones(1))
    assert len(overlapping_pairs(truth, table, 0.1).overlaps) == 0


def test_a_crowd_is_measured_by_the_detection() -> None:
    truth = GroundTruth(np.zeros(1, int), np.zeros(1, int), np.array([[0.0, 0, 100, 100]]), 1, iscrowd=np.array([True]))
    table = DetectionTable(np.zeros(1, int), np.zeros(1, int), np.array([[90.0, 0, 110, 10]]), np.ones(1))
    assert overlapping_pairs(truth, table, 0.1, crowd_by_detection=True).overlaps == pytest.approx([0.5])
    assert len(overlapping_pairs(truth, table, 0.1).overlaps) == 0


def test_best_of_segments() -> None:
    starts = segment_starts(np.array([3, 3, 3, 7, 8, 8]))
    values = np.array([[1.0, 2, 2, 0, 5, 4], [3, 1, 3, 9, 1, 1]])
    assert starts.tolist() == [0, 3, 4]
    assert best_of_segments(values, starts).tolist() == [[1, 3, 4], [0, 3, 4]]
    assert best_of_segments(values, starts, last=True).tolist() == [[2, 3, 4], [2, 3, 5]]
    assert best_of_segments(np.zeros(0), segment_starts(np.zeros(0, int))).tolist() == []


def overlaps_computed(images: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Pairs whose overlap all metrics together compute, and how many at once at most."""
    sizes: list[int] = []
    original = overlaps._overlaps

    def counting(a: np.ndarray, b: np.ndarray, extra: float, crowd: np.ndarray | None) -> np.ndarray:
        sizes.append(len(a))
        return original(a, b, extra, crowd)

    with monkeypatch.context() as patch:
        patch.setattr(overlaps, "_overlaps", counting)
        patch.setattr(overlaps, "PAIRS_AT_ONCE", 2000)
        evaluate_detections(*invent(0, images, 4), 4)
    return sum(sizes), max(sizes)


def test_work_grows_with_the_images_and_memory_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    small, _ = overlaps_computed(200, monkeypatch)
    large, at_once = overlaps_computed(1600, monkeypatch)
    assert large / small == pytest.approx(8, rel=0.25)
    assert at_once <= 2100
