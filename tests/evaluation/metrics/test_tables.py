from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from singleshot.core.structures import Sample
from singleshot.evaluation.metrics import DetectionTable, GroundTruth


def sample(boxes: list[list[float]], classes: list[int], **flags: np.ndarray) -> Sample:
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(Path("a.jpg"), (10, 10), corners, np.array(classes, dtype=np.int64), **flags)


def test_no_samples_make_an_empty_table() -> None:
    truth = GroundTruth.from_samples([])
    assert (len(truth), truth.image_count, truth.boxes_xyxy.shape) == (0, 0, (0, 4))


def test_samples_are_laid_end_to_end() -> None:
    flags = {"difficult": np.array([True, False]), "iscrowd": np.array([False, True]), "areas": np.array([7.0, 8.0])}
    truth = GroundTruth.from_samples(
        [sample([], []), sample([[0, 0, 2, 3], [1, 1, 5, 5]], [4, 2], **flags), sample([[0, 0, 1, 1]], [0])]
    )
    assert truth.image_index.tolist() == [1, 1, 2]
    assert truth.class_ids.tolist() == [4, 2, 0]
    assert truth.ignored.tolist() == [True, True, False]
    assert truth.areas.tolist() == [7, 8, 1]
    assert truth.image_count == 3


def test_areas_default_to_those_of_the_boxes() -> None:
    truth = GroundTruth(np.array([0]), np.array([0]), np.array([[1.0, 2, 4, 4]]), 1)
    assert truth.areas.tolist() == [6]


def test_tables_join() -> None:
    one = DetectionTable(np.array([0]), np.array([1]), np.zeros((1, 4)), np.array([0.5]))
    two = DetectionTable(np.array([3]), np.array([2]), np.ones((1, 4)), np.array([0.25]))
    both = DetectionTable.concatenate([one, two])
    assert both.image_index.tolist() == [0, 3]
    assert both.scores.tolist() == [0.5, 0.25]
    assert len(DetectionTable.concatenate([])) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes_xyxy": np.zeros((2, 4))}, "boxes_xyxy"),
        ({"scores": np.zeros(3)}, "scores has 3 rows"),
        ({"scores": np.array([np.nan])}, "NaN"),
        ({"image_index": np.array([-1])}, "negative"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, np.ndarray], message: str) -> None:
    good = {
        "image_index": np.array([0]),
        "class_ids": np.array([0]),
        "boxes_xyxy": np.zeros((1, 4)),
        "scores": np.array([0.5]),
    }
    with pytest.raises(ValueError, match=message):
        DetectionTable(**(good | change))


def test_an_image_past_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match="past 1 images"):
        GroundTruth(np.array([1]), np.array([0]), np.zeros((1, 4)), 1)
