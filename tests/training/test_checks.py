from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from singleshot.core.structures import ClassMap, Sample
from singleshot.errors import DataError
from singleshot.training.checks import anchor_fit, check_samples

CLASSES = ClassMap(("cat", "dog"))


def sample(
    boxes: list[list[float]], ids: list[int], size_hw: tuple[int, int] = (100, 200), crowd: bool = False
) -> Sample:
    return Sample(
        Path("a.jpg"),
        size_hw,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(ids, np.int64),
        iscrowd=np.full(len(ids), crowd),
    )


BOX = [10.0, 10.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "no images"),
        ([sample([], [])], "none of the 1 training images has an object"),
        ([sample([BOX], [0], crowd=True)], "all 1 objects of the 1 training images are crowds .iscrowd: 1."),
    ],
)
def test_data_that_cannot_teach_is_refused(samples: list[Sample], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_samples(samples, CLASSES, keep_empty=True)


def test_missing_and_rare_classes_are_named() -> None:
    absent, rare = check_samples([sample([BOX], [0])], CLASSES, keep_empty=True)
    assert "class dog" in absent
    assert "cat (1)" in rare
    assert check_samples([sample([BOX] * 20, [0, 1] * 10)], CLASSES, keep_empty=True) == []


def test_no_objects_fit_without_a_warning() -> None:
    fit = anchor_fit([], CLASSES, torch.tensor([[5.0, 5.0, 10.0, 10.0]]), (100, 100))
    assert fit.objects.tolist() == [0, 0]
    assert fit.lines() == []
    assert fit.warnings() == []


def test_overlaps_are_measured_at_the_network_input() -> None:
    # 100 x 200 becomes 100 x 100: the first box 10 wide and 20 high, the second 10 x 10 and far from the anchor.
    fit = anchor_fit(
        [sample([BOX, [160.0, 80.0, 180.0, 90.0]], [0, 1])],
        CLASSES,
        torch.tensor([[10.0, 20.0, 10.0, 10.0]]),
        (100, 100),
    )
    assert fit.mean_iou.tolist() == pytest.approx([0.5, 0.0])
    assert fit.recall.tolist() == [1.0, 0.0]
    assert fit.median_side == pytest.approx((np.sqrt(200) + 10) / 2)
    assert fit.smallest_anchor == 10
    (warning,) = fit.warnings()
    assert "few default boxes fit dog" in warning


def test_too_large_anchors_are_told_with_the_remedy() -> None:
    fit = anchor_fit([sample([BOX], [0])], CLASSES, torch.tensor([[20.0, 20.0, 40.0, 40.0]]), (100, 100))
    assert any("smallest default box (40 px" in warning and "anchors" in warning for warning in fit.warnings())


def test_large_data_is_sampled_evenly() -> None:
    many = [sample([BOX] * 50, [index % 2] * 50) for index in range(200)]
    fit = anchor_fit(many, CLASSES, torch.tensor([[20.0, 20.0, 40.0, 40.0]]), (100, 200))
    assert fit.objects.sum() == 4000
    assert abs(fit.objects[0] - 2000) < 100
