"""Imported checkpoints against what the real systems said about the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import singleshot
from foreign import GOLDEN, Golden, golden_arrays, golden_image, relative, w1_file
from parity import anchor_error, head_errors
from singleshot.core.postprocess import PaddedDetections
from singleshot.detector import Detector
from singleshot.multibox.decode import postprocess

LIGHT = ("torchvision_ssdlite320_c91_s1", "lufficc_mobilenet_v2_ssd320_s5")
# Another file of the same system has the same layers.
HEAVY = ("lufficc_vgg_ssd512_c21_s4", "torchvision_ssd300_vgg16_c91_s1", "torchvision_ssdlite320_c21_s2")


def marks(file: str) -> pytest.MarkDecorator | tuple[()]:
    return pytest.mark.heavy if file in HEAVY else () if file in LIGHT else pytest.mark.slow


CASES = [pytest.param(one, marks=marks(one.file), id=one.file) for one in GOLDEN]


@pytest.mark.parametrize("golden", CASES)
def test_heads_anchors_and_detections(golden: Golden, reference: Path, tmp_path: Path) -> None:
    detector = singleshot.import_weights(w1_file(reference, golden, tmp_path))
    arrays = golden_arrays(reference, golden)
    images = detector.preprocess(golden_image(golden))[None]
    # In float64, so that a processor's rounding decides nothing where two boxes overlap by the NMS threshold.
    with torch.no_grad():
        output = detector.network.double()(images.double())

    errors = head_errors(output, arrays)
    assert len(errors) >= 2
    assert max(errors.values()) < 1e-4, errors
    assert anchor_error(detector, arrays) < 1e-6
    if "input_corner" in arrays:
        assert relative(images[0, :, :16, :16], arrays["input_corner"]) < 1e-6

    result = postprocess(
        output,
        detector.anchors(),
        detector.spec.postprocess,
        detector.spec.coder,
        detector.spec.preprocess.size_hw,
        len(detector.class_names),
    )
    labels, scores, boxes = golden_detections(golden, arrays, detector.spec.preprocess.size_hw)
    assert_detections_found(detector, result, labels, scores, boxes)


def golden_detections(golden: Golden, arrays: dict[str, Any], size_hw: tuple[int, int]) -> tuple[Any, Any, Any]:
    """Labels, scores and boxes in pixels of the network input."""
    input_wh = np.array(size_hw[::-1] * 2)
    if "det_boxes" in arrays:
        boxes = arrays["det_boxes"] / np.array(golden.size_hw[::-1] * 2) * input_wh
        return arrays["det_labels"], arrays["det_scores"], boxes
    rows = arrays["det_label_score_box"]
    boxes = rows[:, 2:]
    return rows[:, 0].astype(int), rows[:, 1], boxes * input_wh if np.abs(boxes).max() < 20 else boxes


def assert_detections_found(detector: Detector, result: PaddedDetections, labels: Any, scores: Any, boxes: Any) -> None:
    """Every golden detection of a class that exists is among ours; near ties may change places."""
    count = int(result.counts[0])
    columns = detector.spec.postprocess.class_columns or tuple(range(1, len(detector.class_names) + 1))
    ours = np.array(columns)[result.class_ids[0, :count].numpy()]
    our_scores, our_boxes = result.scores[0, :count].numpy(), result.boxes_xyxy[0, :count].numpy()
    for label, score, box in zip(labels, scores, boxes, strict=True):
        if label not in columns:
            continue
        near = (ours == label) & (np.abs(our_scores - score) < 1e-3)
        assert near.any()
        assert np.abs(our_boxes[near] - box).max(axis=1).min() < 0.01
