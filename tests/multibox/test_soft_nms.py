from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from singleshot.core.nms_kinds import NmsConfig
from singleshot.multibox import plain
from singleshot.multibox.soft_nms import gaussian, linear, soft_nms

BOXES = torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 0.0, 5.0, 4.0], [20.0, 0.0, 24.0, 4.0]])


def config(**changes):
    return NmsConfig(0.5, max_per_image=10)._replace(**changes)


def test_nothing():
    none = torch.zeros(0).long()
    rows, scores = soft_nms(torch.zeros(0), none, none, torch.zeros(0, 4), linear, config())
    assert (len(rows), len(scores)) == (0, 0)


@pytest.mark.parametrize(
    ("fall", "changes", "groups", "rows", "scores"),
    [
        (linear, {}, [0, 0, 0], [0, 2, 1], [0.9, 0.5, 0.32]),
        (linear, {}, [0, 1, 0], [0, 1, 2], [0.9, 0.8, 0.5]),
        (linear, {"iou": 0.7}, [0, 0, 0], [0, 1, 2], [0.9, 0.8, 0.5]),
        (gaussian, {}, [0, 0, 0], [0, 2, 1], [0.9, 0.5, 0.8 * math.exp(-0.36 / 0.5)]),
        (linear, {"min_score": 0.4}, [0, 0, 0], [0, 2], [0.9, 0.5]),
        (linear, {"max_per_image": 1}, [0, 0, 0], [0], [0.9]),
        (linear, {"max_per_group": 1}, [0, 0, 1], [0, 2], [0.9, 0.5]),
    ],
)
def test_choices(fall, changes, groups, rows, scores):
    found = soft_nms(
        torch.tensor([0.9, 0.8, 0.5]), torch.zeros(3).long(), torch.tensor(groups), BOXES, fall, config(**changes)
    )
    assert found[0].tolist() == rows
    assert found[1].tolist() == pytest.approx(scores)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fall", [linear, gaussian])
def test_equals_a_plain_pass(seed, fall):
    rng = np.random.default_rng(seed)
    count = 40
    corner = rng.random((count, 2)) * 20
    boxes = np.concatenate([corner, corner + 2 + rng.random((count, 2)) * 8], axis=1).astype(np.float32)
    scores, groups = rng.random(count).astype(np.float32), rng.integers(0, 2, count)
    images = np.sort(rng.choice([0, 1, 3], count))
    settings = config(iou=0.3, min_score=0.2, max_per_image=9)
    rows, values = soft_nms(
        torch.from_numpy(scores),
        torch.from_numpy(images),
        torch.from_numpy(images * 2 + groups),
        torch.from_numpy(boxes),
        fall,
        settings,
    )
    expected = []
    for image in (0, 1, 3):
        left = {i: float(scores[i]) for i in range(count) if images[i] == image}
        for _ in range(9):
            if not left or max(left.values()) <= 0.2:
                break
            best = max(left, key=lambda i: left[i])
            expected.append((best, left.pop(best)))
            for i in left:
                if groups[i] == groups[best]:
                    overlap = plain.iou(boxes[i].tolist(), boxes[best].tolist())
                    down = 1 - overlap if overlap > 0.3 else 1
                    left[i] *= math.exp(-(overlap**2) / 0.5) if fall is gaussian else down
    assert rows.tolist() == [i for i, _ in expected]
    assert values.tolist() == pytest.approx([value for _, value in expected], rel=1e-5)
