from __future__ import annotations

import numpy as np
import pytest
from metric_references import invent

from singleshot.evaluation.metrics import DetectionTable, GroundTruth, evaluate_detections
from singleshot.evaluation.metrics.diagnosis import diagnose

SIZES = np.full((20, 2), 400)


@pytest.fixture
def truth() -> GroundTruth:
    return invent(0, 20, 2)[0]


def exact(truth: GroundTruth, *, shift: int = 0, scale: float = 1.0, score: float = 0.9) -> DetectionTable:
    scores = np.full(len(truth), score)
    return DetectionTable(truth.image_index, (truth.class_ids + shift) % 2, truth.boxes_xyxy * scale, scores)


def findings(truth: GroundTruth, table: DetectionTable) -> str:
    return " ".join(diagnose(truth, table, evaluate_detections(truth, table, 2, coco=False).voc_area, SIZES))


def test_good_results_need_no_words(truth: GroundTruth) -> None:
    assert findings(truth, exact(truth)) == ""


def test_a_low_but_honest_result_needs_no_words(truth: GroundTruth) -> None:
    assert diagnose(truth, exact(truth, scale=0.01), 0.03, SIZES) == ()


def test_no_objects() -> None:
    empty = GroundTruth(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), 20)
    assert "no objects" in findings(empty, DetectionTable.concatenate([]))


def test_no_detections(truth: GroundTruth) -> None:
    assert "found nothing" in findings(truth, DetectionTable.concatenate([]))


def test_classes_in_another_order(truth: GroundTruth) -> None:
    assert "order of the classes" in findings(truth, exact(truth, shift=1))


def test_boxes_in_other_units(truth: GroundTruth) -> None:
    words = findings(truth, exact(truth, scale=0.01))
    assert "overlap any detection" in words
    assert "400 x 400" in words


def test_a_detector_that_is_sure_of_nothing(truth: GroundTruth) -> None:
    assert "hardly trained" in findings(truth, exact(truth, scale=0.01, score=0.05))
