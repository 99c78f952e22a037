"""Bounds and intervals of COCO's AP."""

from __future__ import annotations

import numpy as np
import pytest

from singleshot.evaluation.metrics import DetectionTable, GroundTruth
from singleshot.evaluation.metrics.coco import best_possible_ap, coco_metrics, judge
from singleshot.evaluation.metrics.interval import FEWEST_IMAGES, _weighted_ap, ap_intervals


def scene(images: int, classes: int, objects: int, false: int, seed: int = 0) -> tuple[GroundTruth, DetectionTable]:
    """Objects, a shaken detection of each, and detections of nothing."""
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corners = rng.uniform(0, 300, (count, 2))
        return np.concatenate([corners, corners + rng.uniform(20, 150, (count, 2))], axis=1)

    where, ids = np.repeat(np.arange(images), objects), rng.integers(classes, size=images * objects)
    truth = GroundTruth(where, ids, boxes(len(ids)), images, difficult=rng.random(len(ids)) < 0.1)
    wrong = images * false
    table = DetectionTable(
        np.concatenate([where, np.repeat(np.arange(images), false)]),
        np.concatenate([ids, rng.integers(classes, size=wrong)]),
        np.concatenate([truth.boxes_xyxy + rng.normal(0, 8, (len(ids), 4)), boxes(wrong)]),
        np.concatenate([rng.uniform(0.2, 1, len(ids)), rng.uniform(0, 0.7, wrong)]),
    )
    return truth, table


def crowded(count: int, images: int = 1) -> tuple[GroundTruth, DetectionTable]:
    """``count`` perfectly found objects of one class in each image."""
    corners = np.stack(np.meshgrid(np.arange(20), np.arange(count // 20 + 1)), axis=-1).reshape(-1, 2)[:count] * 40.0
    boxes = np.tile(np.concatenate([corners, corners + 30], axis=1), (images, 1))
    where, ids = np.repeat(np.arange(images), count), np.zeros(count * images, int)
    return GroundTruth(where, ids, boxes, images), DetectionTable(where, ids, boxes, np.full(len(ids), 0.9))


@pytest.mark.parametrize(
    ("count", "most", "bound"),
    [(0, 100, np.nan), (1, 100, 1), (100, 100, 1), (101, 100, 100 / 101), (102, 100, 99 / 101), (300, 100, 34 / 101),
     (300, 299, 100 / 101), (300, 300, 1), (300, 150, 51 / 101)],
)  # fmt: skip
def test_a_perfect_detector_reaches_the_bound(count: int, most: int, bound: float) -> None:
    """Of 101 recalls that are asked for, so many are reached; 300 boxes in one image make .337."""
    truth, table = crowded(count)
    result = coco_metrics(truth, table, 1, most)
    np.testing.assert_allclose(best_possible_ap(truth, 1, most), bound, atol=1e-12)
    np.testing.assert_allclose(result.summary["AP"], bound, atol=1e-9)
    assert f"AR_{most}" in result.summary
    assert result.max_detections == most


def test_bounds_are_by_class_and_leave_out_what_need_not_be_found() -> None:
    truth, _ = crowded(300)
    assert best_possible_ap(truth.relabel(np.array([1])), 3) == pytest.approx(34 / 101)
    half = GroundTruth(truth.image_index, np.arange(300) % 2, truth.boxes_xyxy, 1)
    assert best_possible_ap(half, 2) == pytest.approx(67 / 101)
    order = np.arange(300)
    few = GroundTruth(
        truth.image_index, truth.class_ids, truth.boxes_xyxy, 1, difficult=order >= 100, iscrowd=order < 9
    )
    assert best_possible_ap(few, 1) == 1


@pytest.mark.parametrize(("images", "classes", "objects", "false"), [(6, 1, 1, 0), (12, 3, 3, 20), (30, 8, 4, 30)])
def test_weights_count_like_copies_of_the_image(images: int, classes: int, objects: int, false: int) -> None:
    """The AP with weights is the AP of a data set in which each image occurs so often."""
    truth, table = scene(images, classes, objects, false)
    weights = np.random.default_rng(1).integers(0, 3, size=images)
    copies = np.repeat(np.arange(images), weights)
    rows = [np.flatnonzero(truth.image_index == image) for image in copies]
    found = [np.flatnonzero(table.image_index == image) for image in copies]
    many = GroundTruth(
        np.repeat(np.arange(len(copies)), [len(part) for part in rows]),
        *(np.concatenate([getattr(truth, name)[part] for part in rows]) for name in ("class_ids", "boxes_xyxy")),
        len(copies),
        np.concatenate([truth.difficult[part] for part in rows]),
    )
    all_found = table.take(np.concatenate(found))
    repeated = DetectionTable(
        np.repeat(np.arange(len(copies)), [len(part) for part in found]),
        all_found.class_ids,
        all_found.boxes_xyxy,
        all_found.scores,
    )
    judged = judge(truth, table, classes, 100)
    own = [_weighted_ap(truth, judged, index, weights[None])[0].mean() for index in range(classes)]
    np.testing.assert_allclose(own, coco_metrics(many, repeated, classes).class_ap, atol=1e-12)


def test_the_number_lies_in_its_interval_and_more_images_narrow_it() -> None:
    widths = []
    for images in (12, 120):
        truth, table = scene(images, 2, 3, 10)
        summary, found = coco_metrics(truth, table, 2).summary, ap_intervals(truth, table, 2)
        assert set(found) == {"AP", "AP50"}
        for name, (low, high) in found.items():
            assert 0 <= low < summary[name] < high <= 1
        assert ap_intervals(truth, table, 2) == found
        widths.append(found["AP"][1] - found["AP"][0])
    assert widths[1] < widths[0] / 2


NO_BOXES = (np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)))


@pytest.mark.parametrize(
    ("truth", "table"),
    [
        (GroundTruth(*NO_BOXES, 0), DetectionTable(*NO_BOXES, np.zeros(0))),
        (GroundTruth(*NO_BOXES, 50), DetectionTable(*NO_BOXES, np.zeros(0))),
        scene(FEWEST_IMAGES - 1, 1, 3, 3),
        crowded(2, images=20),  # perfect: nothing varies
        (scene(20, 2, 2, 0)[0], DetectionTable(*NO_BOXES, np.zeros(0))),  # nothing found: nothing varies
    ],
    ids=["no images", "no objects", "few images", "perfect", "nothing found"],
)
def test_where_nothing_can_be_said_there_is_no_interval(truth: GroundTruth, table: DetectionTable) -> None:
    assert ap_intervals(truth, table, 2) == {}


def test_large_sets_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, table = scene(20, 2, 2, 2)
    monkeypatch.setattr("singleshot.evaluation.metrics.interval.MOST_NUMBERS", 1000)
    assert ap_intervals(truth, table, 2) == {}
