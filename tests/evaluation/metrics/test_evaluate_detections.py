from __future__ import annotations

import numpy as np
import pytest
from metric_references import invent

from singleshot.evaluation.metrics import DetectionTable, GroundTruth, VocConfig, evaluate_detections


def test_an_empty_data_set() -> None:
    truth = GroundTruth(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), 0)
    result = evaluate_detections(truth, DetectionTable.concatenate([]), 2)
    assert np.isnan(result.voc_area)
    assert result.confusion.sum() == 0
    assert result.coco is not None
    assert np.isnan(result.coco.summary["AP"])


def test_the_parts_agree() -> None:
    truth, table = invent(0, 60, 3)
    result = evaluate_detections(truth, table, 3)
    assert result.voc_area == pytest.approx(result.class_voc_area.mean())
    assert result.voc_07 == pytest.approx(result.class_voc_07.mean())
    assert result.coco is not None
    # COCO's AP50 samples the same envelope at 101 recalls
    assert result.coco.summary["AP50"] == pytest.approx(result.voc_area, abs=0.02)
    np.testing.assert_array_equal(result.confusion[:3].sum(axis=1), np.bincount(truth.class_ids, minlength=3))


def test_coco_can_be_left_out() -> None:
    assert evaluate_detections(*invent(0, 3, 2), 2, coco=False).coco is None


def test_the_dialect_reaches_the_rule() -> None:
    truth, table = invent(0, 60, 3)
    strict = evaluate_detections(truth, table, 3, voc=VocConfig(min_iou=0.75), coco=False)
    assert strict.voc_area < evaluate_detections(truth, table, 3, coco=False).voc_area


@pytest.mark.parametrize(("classes", "images", "message"), [(1, 3, "class"), (2, 1, "image_index")])
def test_ids_out_of_range_are_refused(classes: int, images: int, message: str) -> None:
    _, table = invent(0, 3, 2)
    truth = GroundTruth(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), images)
    with pytest.raises(ValueError, match=message):
        evaluate_detections(truth, table, classes)
