"""Opinions of single images, put beside all labels: what was not looked at counts for nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from singleshot.detector import load
from singleshot.doctor.evidence import weigh
from singleshot.doctor.opinions import DetectionJudge, NetworkJudge, Opinion, open_judge
from singleshot.doctor.suspects import wrong_classes
from singleshot.evaluation.metrics.class_match import match_classes
from singleshot.evaluation.metrics.tables import GroundTruth

DATA, MODEL = ("cat", "yeti", "dog"), ("dog", "horse", "cat")
MATCH = match_classes(MODEL, DATA)
BOXES = np.array([(0, 0, 50, 50), (60, 0, 90, 30), (0, 60, 40, 90), (0, 0, 50, 50)], np.float32)
TRUTH = GroundTruth(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 0]), BOXES, 3)
"""A cat and a yeti in image 0, nothing in 1, a dog and a cat in 2."""


def opinion(*found: tuple[int, int, float], spoken: int | None = None) -> Opinion:
    """Detections (row of `BOXES`, class of the model, score), and shares of so many labelled boxes where given."""
    rows, ids, scores = (np.array(column) for column in zip(*found, strict=True))
    shares = None if spoken is None else np.tile(np.float32([0.5, 0.25, 0.25]), (spoken, 1))
    objectness = None if spoken is None else np.linspace(0.1, 0.9, spoken, dtype=np.float32)
    return Opinion(BOXES[rows], scores.astype(np.float32), ids, shares, objectness)


def test_images_without_an_opinion_are_left_out() -> None:
    evidence = weigh(MATCH, TRUTH, [None, None, opinion((2, 2, 0.9))], model_count=3, data_count=3)
    assert evidence.truth.image_index.tolist() == [2, 2]
    assert (evidence.objects.tolist(), len(evidence.unknown)) == ([0, 1], 0)
    evidence = weigh(MATCH, TRUTH, [opinion((0, 1, 0.9)), None, None], model_count=3, data_count=3)
    assert (evidence.truth.class_ids.tolist(), len(evidence.unknown)) == ([0], 1)  # the yeti is known to nobody
    assert len(evidence.detections) == 0  # nor are horses among the labels
    nothing = weigh(MATCH, TRUTH, [None] * 3, model_count=3, data_count=3)
    assert (len(nothing.truth), nothing.class_shares.shape) == (0, (0, 2))


def test_shares_of_a_network_follow_the_objects() -> None:
    opinions = [opinion((0, 2, 0.9), spoken=2), None, opinion((3, 2, 0.9), spoken=2)]
    evidence = weigh(MATCH, TRUTH, opinions, model_count=3, data_count=3)
    np.testing.assert_allclose(evidence.class_shares, np.tile([1 / 3, 2 / 3], (3, 1)), rtol=1e-6)  # cat, dog
    np.testing.assert_allclose(evidence.objectness, [0.1, 0.1, 0.9], rtol=1e-6)


def test_detections_alone_tell_a_wrong_class() -> None:
    opinions = [opinion((0, 2, 0.9)), None, opinion((2, 0, 0.8), (3, 0, 0.7), (3, 2, 0.002))]
    evidence = weigh(MATCH, TRUTH, opinions, model_count=3, data_count=3)
    np.testing.assert_allclose(evidence.class_shares.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(evidence.objectness, [0.9, 0.8, 0.7], rtol=1e-6)
    rows, suspicions, partners = wrong_classes(evidence)
    assert (rows.tolist(), evidence.detections.scores[partners].tolist()) == ([2], [np.float32(0.7)])
    assert suspicions[0] > 0.9


def test_a_network_is_asked_and_an_exported_file_sees(tmp_path: Path) -> None:
    detector = load("coco")
    detector.export(tmp_path / "model.onnx", level="end2end", verify=False, note=lambda _: None)
    assert isinstance(open_judge(detector), NetworkJudge)
    assert isinstance(open_judge(load(tmp_path / "model.onnx")), DetectionJudge)
