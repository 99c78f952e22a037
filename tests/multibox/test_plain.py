"""The plain reading itself: by hand, and against the forms that no other test compares with it."""

from __future__ import annotations

import math
import runpy

import numpy as np
import pytest
import torch

from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput
from singleshot.multibox import plain
from singleshot.multibox.coder import decode_boxes, encode_boxes
from singleshot.multibox.decode import postprocess

ANCHORS = [[x, y, side, side] for side in (20.0, 40.0) for y in (15.0, 45.0) for x in (15.0, 45.0, 75.0)]


def test_nothing():
    assert plain.match([]) == []
    assert plain.match([[], []]) == [-1, -1]
    assert plain.nms([], [], []) == []
    assert plain.detect([], [], []) == []
    assert plain.multibox_loss([], [], ANCHORS, [], []) == (0.0, 0.0, 0)


def test_an_image_by_hand():
    anchors, box = [[2.0, 2.0, 4.0, 4.0], [6.0, 2.0, 4.0, 4.0]], [0.0, 0.0, 4.0, 4.0]
    codes, logits = [[0.5, 0.0, 2.0, 0.0], [9.0] * 4], [[0.0, 0.0], [3.0, 3.0]]
    loss = plain.multibox_loss([codes], [logits], anchors, [[box]], [[0]])
    assert loss == (pytest.approx(2 * math.log(2)), pytest.approx(0.125 + 1.5), 1)


def test_codes_equal_the_fast_ones():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 30, (20, 2))], axis=1)
    anchors = np.concatenate([corner, rng.uniform(1, 30, (20, 2))], axis=1)
    codes = [plain.encode(*pair) for pair in zip(boxes.tolist(), anchors.tolist(), strict=True)]
    assert np.allclose(codes, encode_boxes(torch.from_numpy(boxes), torch.from_numpy(anchors)))
    decoded = [plain.decode(*pair) for pair in zip(codes, anchors.tolist(), strict=True)]
    assert np.allclose(decoded, boxes)
    assert np.allclose(decoded, decode_boxes(torch.tensor(codes), torch.from_numpy(anchors)))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("score_threshold", [0.01, 0.3, 1.0])
def test_detections_equal_the_fast_ones(seed, score_threshold):
    rng = np.random.default_rng(seed)
    codes, logits = rng.normal(size=(len(ANCHORS), 4)), rng.normal(0, 2, (len(ANCHORS), 4))
    found = plain.detect(codes.tolist(), logits.tolist(), ANCHORS, score_threshold, max_detections=9)
    output = HeadOutput(torch.from_numpy(codes)[None].float(), torch.from_numpy(logits)[None].float())
    config = PostprocessConfig(score_threshold=score_threshold, max_detections=9, clip="none")
    fast = postprocess(output, torch.tensor(ANCHORS), config, CoderConfig(), (60, 90))
    assert int(fast.counts) == len(found)
    assert fast.class_ids[0, : len(found)].tolist() == [class_id for _, class_id, _ in found]
    assert fast.scores[0, : len(found)].tolist() == pytest.approx([score for score, _, _ in found], rel=1e-4)
    for box, (_, _, expected) in zip(fast.boxes_xyxy[0].tolist(), found, strict=False):
        assert box == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_it_runs(capsys):
    runpy.run_path(plain.__file__, run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "object that each anchor learns",
        "classification, localization, positives",
        "detections",
    ]
    assert "[-1, 0, 0, -1]" in lines[0]
