from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_references import invent, peer_coco

from singleshot.evaluation.metrics import DetectionTable, GroundTruth
from singleshot.evaluation.metrics import coco as module
from singleshot.evaluation.metrics.coco import coco_metrics

NOTHING = DetectionTable(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), np.zeros(0))


def numbers(truth: GroundTruth, table: DetectionTable, classes: int) -> np.ndarray:
    result = coco_metrics(truth, table, classes)
    return np.nan_to_num([*result.summary.values(), *result.class_ap], nan=-1.0)


def test_nothing_at_all_is_undefined() -> None:
    truth = GroundTruth(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), 0)
    assert np.isnan(list(coco_metrics(truth, NOTHING, 2).summary.values())).all()


def test_objects_without_detections_score_zero() -> None:
    truth = GroundTruth(np.array([0]), np.array([1]), np.array([[0.0, 0, 50, 50]]), 1)
    result = coco_metrics(truth, NOTHING, 2)
    assert result.summary["AP"] == result.summary["AP_medium"] == result.summary["AR_100"] == 0
    assert np.isnan(result.summary["AP_small"])
    assert np.isnan(result.class_ap[0])
    assert result.class_ap[1] == 0


def test_a_perfect_detection_scores_one() -> None:
    truth = GroundTruth(np.array([0]), np.array([0]), np.array([[0.0, 0, 50, 50]]), 1)
    table = DetectionTable(np.array([0]), np.array([0]), truth.boxes_xyxy, np.array([0.5]))
    assert coco_metrics(truth, table, 1).summary["AP"] == pytest.approx(1, abs=1e-12)


def test_difficult_objects_are_neither_missed_nor_mistakes() -> None:
    boxes = np.array([[0.0, 0, 50, 50], [100, 100, 150, 150]])
    truth = GroundTruth(np.array([0, 0]), np.array([0, 0]), boxes, 1, difficult=np.array([False, True]))
    table = DetectionTable(np.zeros(3, int), np.zeros(3, int), boxes[[1, 1, 0]], np.array([0.9, 0.8, 0.7]))
    assert coco_metrics(truth, table, 1).summary["AP"] == pytest.approx(1, abs=1e-12)


def test_of_equal_overlaps_the_last_object_is_taken() -> None:
    pytest.importorskip("pycocotools")
    # the first detection overlaps both objects alike and takes the second; so the second detection finds nothing
    objects = np.array([[0.0, 0, 80, 100], [20, 0, 100, 100]])
    truth = GroundTruth(np.zeros(2, int), np.zeros(2, int), objects, 1)
    found = np.array([[0.0, 0, 100, 100], [40, 0, 100, 100]])
    table = DetectionTable(np.zeros(2, int), np.zeros(2, int), found, np.array([0.9, 0.8]))
    np.testing.assert_allclose(numbers(truth, table, 1), peer_coco(truth, table, 1, "pycocotools"), atol=1e-9)
    assert coco_metrics(truth, table, 1).summary["AR_100"] == pytest.approx(7 / 20)


def test_the_hundred_and_first_detection_does_not_count() -> None:
    truth = GroundTruth(np.array([0]), np.array([0]), np.array([[0.0, 0, 50, 50]]), 1)
    boxes = np.array([[200.0, 200, 250, 250]] * 100 + [[0.0, 0, 50, 50]])
    table = DetectionTable(np.zeros(101, int), np.zeros(101, int), boxes, np.linspace(1, 0, 101))
    assert coco_metrics(truth, table, 1).summary["AP"] == 0
    assert coco_metrics(truth, table.take(np.arange(1, 101)), 1).summary["AP"] == pytest.approx(0.01)


def test_the_ends_of_a_size_range_belong_to_it() -> None:
    truth = GroundTruth(np.array([0]), np.array([0]), np.array([[0.0, 0, 32, 32]]), 1)
    summary = coco_metrics(truth, NOTHING, 1).summary
    assert summary["AP_small"] == summary["AP_medium"] == 0
    assert np.isnan(summary["AP_large"])


@pytest.mark.parametrize("peer", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_peers(seed: int, peer: str) -> None:
    pytest.importorskip(peer)
    truth, table = invent(seed, 40, 3 + seed, whole_pixels=seed % 2 == 1, equal_scores=seed % 3 == 1, crowd=0.15)
    np.testing.assert_allclose(numbers(truth, table, 3 + seed), peer_coco(truth, table, 3 + seed, peer), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 5), crowd=st.sampled_from([0.0, 0.5]), exact=st.booleans())
def test_equals_pycocotools_on_anything(seed: int, images: int, crowd: float, exact: bool) -> None:
    pytest.importorskip("pycocotools")
    truth, table = invent(seed, images, 2, crowd=crowd, whole_pixels=exact, equal_scores=exact)
    np.testing.assert_allclose(numbers(truth, table, 2), peer_coco(truth, table, 2, "pycocotools"), atol=1e-9)


def test_more_than_a_hundred_detections_of_a_class() -> None:
    pytest.importorskip("pycocotools")
    truth, table = invent(5, 2, 1)
    many = DetectionTable.concatenate([table] * 30)
    many = DetectionTable(many.image_index, many.class_ids, many.boxes_xyxy, np.random.default_rng(0).random(len(many)))
    assert np.bincount(many.image_index).max() > 100
    np.testing.assert_allclose(numbers(truth, many, 1), peer_coco(truth, many, 1, "pycocotools"), atol=1e-9)


def test_cutting_the_work_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, table = invent(3, 30, 3, crowd=0.2)
    whole = numbers(truth, table, 3)
    monkeypatch.setattr(module, "GROUP_PAIRS_AT_ONCE", 5)
    np.testing.assert_array_equal(numbers(truth, table, 3), whole)


def test_real_annotations_with_crowds(reference: Path) -> None:
    pytest.importorskip("pycocotools")
    document = json.loads((reference / "data/coco_train343/instances.json").read_text())
    images = {
        image["id"]: place for place, image in enumerate(sorted(document["images"], key=lambda image: image["id"]))
    }
    classes = {category["id"]: place for place, category in enumerate(document["categories"])}
    rows = document["annotations"]
    boxes = np.array([row["bbox"] for row in rows])
    boxes[:, 2:] += boxes[:, :2]
    truth = GroundTruth(
        np.array([images[row["image_id"]] for row in rows]),
        np.array([classes[row["category_id"]] for row in rows]),
        boxes,
        len(images),
        iscrowd=np.array([bool(row["iscrowd"]) for row in rows]),
        areas=np.array([row["area"] for row in rows], dtype=float),
    )
    assert truth.iscrowd.any()
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(len(truth)), rng.integers(0, 4, len(truth)))
    jitter = rng.normal(0, 0.08, (len(source), 4)) * np.tile(boxes[source, 2:] - boxes[source, :2], 2)
    found = boxes[source] + jitter
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    table = DetectionTable(truth.image_index[source], truth.class_ids[source], found, rng.random(len(source)))
    count = len(classes)
    np.testing.assert_allclose(numbers(truth, table, count), peer_coco(truth, table, count, "pycocotools"), atol=1e-6)
