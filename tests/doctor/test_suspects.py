"""Labels that a detector contradicts, on evidence made by hand: clean labels give none, planted faults are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from singleshot.core.structures import Sample
from singleshot.doctor.evidence import Evidence
from singleshot.doctor.model_faults import detector_faults, label_suspects
from singleshot.doctor.suspects import class_suspicions, missing_labels
from singleshot.evaluation.metrics.class_match import match_classes
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth

NAMES = ("ant", "bee", "wasp")
COUNT = 60
SIZE = 50.0


def evidence(count: int = COUNT) -> Evidence:
    """One object a picture, found in place with its class."""
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corners, corners + SIZE], axis=1).astype(np.float32)
    ids = np.arange(count) % 3
    shares = np.full((count, 3), 0.05, np.float32)
    shares[np.arange(count), ids] = 0.9
    samples = tuple(
        Sample(Path(f"{i}.jpg"), (300, 300), boxes[i : i + 1], ids[i : i + 1], source=f"{i}.xml") for i in range(count)
    )
    return Evidence(
        classes=match_classes(NAMES, NAMES),
        samples=samples,
        truth=GroundTruth.from_samples(samples) if count else GroundTruth(ids, ids, boxes, 0),
        objects=np.zeros(count, np.int64),
        unknown=GroundTruth.from_samples([]),
        detections=DetectionTable(np.arange(count), ids, boxes + 2, np.full(count, 0.9)),
        class_shares=shares,
        objectness=np.full(count, 0.9, np.float32),
        unreadable=(),
    )


def changed(view: Evidence, **tables: np.ndarray) -> Evidence:
    """The same with other labels."""
    return replace(view, truth=replace(view.truth, **tables))


def named(view: Evidence) -> list[tuple[str, str]]:
    return [(item.kind, item.places[0].image.name) for item in label_suspects(view)]


def test_nothing_is_suspected_of_nothing() -> None:
    assert named(evidence(0)) == []


def test_clean_labels_are_believed() -> None:
    view = evidence()
    assert named(view) == []
    assert list(detector_faults(view, Path("data"), 0.3)) == []  # all are found at 0.9, so at 0.3
    assert [item.kind for item in detector_faults(view, Path("data"), 0.95)] == ["threshold"]


def test_swapped_labels_are_ranked_first() -> None:
    view = evidence()
    ids = view.truth.class_ids.copy()
    ids[[4, 17, 33]] = (ids[[4, 17, 33]] + 1) % 3
    shares = view.class_shares.copy()
    shares[[4, 17, 33]] = 0.01
    shares[[4, 17, 33], view.truth.class_ids[[4, 17, 33]]] = 0.98
    swapped = changed(replace(view, class_shares=shares), class_ids=ids)
    assert set(np.argsort(-class_suspicions(swapped))[:3]) == {4, 17, 33}
    assert sorted(named(swapped)) == [("wrong-class", f"{i}.jpg") for i in (17, 33, 4)]


def test_an_unlabelled_object_is_missed_and_one_in_a_crowd_is_not() -> None:
    view = evidence()
    keep = np.arange(COUNT) != 7
    truth = view.truth
    fewer = replace(
        view,
        truth=GroundTruth(truth.image_index[keep], truth.class_ids[keep], truth.boxes_xyxy[keep], COUNT),
        class_shares=view.class_shares[keep],
        objectness=view.objectness[keep],
        objects=view.objects[keep],
    )
    assert view.detections.image_index[missing_labels(fewer).rows].tolist() == [7]
    moth = GroundTruth(np.array([7]), np.array([0]), truth.boxes_xyxy[7:8], COUNT)
    assert len(missing_labels(replace(fewer, unknown=moth)).rows) == 0  # it has a label, of a class nobody taught
    boxes, crowd = truth.boxes_xyxy.copy(), np.zeros(COUNT, dtype=bool)
    boxes[7], crowd[7] = (0, 0, 300, 300), True
    assert len(missing_labels(changed(view, boxes_xyxy=boxes, iscrowd=crowd)).rows) == 0


def without(view: Evidence, objects: np.ndarray) -> Evidence:
    """The same where some objects have no label."""
    truth, keep = view.truth, np.isin(np.arange(len(view.truth)), objects, invert=True)
    kept = truth.with_classes(np.where(keep, truth.class_ids, -1))
    shares, objectness = view.class_shares[keep], view.objectness[keep]
    return replace(view, truth=kept, objects=view.objects[keep], class_shares=shares, objectness=objectness)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_missing_labels_are_found_however_many_are_missing(share: float) -> None:
    view = evidence(200)
    rng = np.random.default_rng(3)
    gone = np.sort(rng.choice(200, int(share * 200), replace=False))
    scores = rng.uniform(0.15, 0.95, 200)  # a detector that has learnt for minutes is unsure of what it sees rightly
    bare = without(replace(view, detections=replace(view.detections, scores=scores)), gone)
    told = np.sort(missing_labels(bare).rows)
    assert set(told) <= set(gone)
    assert len(told) >= 0.8 * len(gone)


def test_an_object_without_a_label_is_told_once() -> None:
    view = evidence()
    again = replace(view.detections, class_ids=(view.detections.class_ids + 1) % 3, scores=np.full(COUNT, 0.8))
    twice = replace(view, detections=DetectionTable.concatenate([view.detections, again]))
    rows = missing_labels(without(twice, np.array([4, 7]))).rows
    assert (sorted(rows), twice.detections.scores[rows].tolist()) == ([4, 7], [0.9, 0.9])


def test_weak_detections_of_nothing_accuse_nobody() -> None:
    view = evidence(200)
    nothing = np.arange(0, 200, 2)
    corners = view.detections.boxes_xyxy[nothing] + 140
    wrong = DetectionTable(nothing, np.zeros(100, int), corners, np.linspace(0.1, 0.6, 100))
    assert (
        len(missing_labels(replace(view, detections=DetectionTable.concatenate([view.detections, wrong]))).rows) <= 20
    )


def test_a_box_beside_its_object_and_an_empty_one() -> None:
    view = evidence()
    boxes = view.truth.boxes_xyxy.copy()
    boxes[5] += (20, 20, 20, 20)
    objectness = view.objectness.copy()
    objectness[[5, 9]] = (0.1, 0.0)
    elsewhere = replace(view.detections, scores=np.where(np.arange(COUNT) == 9, 0.06, 0.9))
    view = changed(replace(view, objectness=objectness, detections=elsewhere), boxes_xyxy=boxes)
    assert sorted(named(view)) == [("misplaced-box", "5.jpg"), ("no-object", "9.jpg")]


def test_a_picture_without_labels_is_one_finding() -> None:
    view = evidence()
    bare = replace(view.samples[3], boxes_xyxy=np.zeros((0, 4), np.float32), class_ids=np.zeros(0, np.int64),
                   difficult=np.zeros(0, bool), iscrowd=np.zeros(0, bool), areas=np.zeros(0, np.float32))  # fmt: skip
    samples = (*view.samples[:3], bare, *view.samples[4:])
    keep = np.arange(COUNT) != 3
    fewer = replace(view, samples=samples, truth=GroundTruth.from_samples(samples), objects=view.objects[keep],
                    class_shares=view.class_shares[keep], objectness=view.objectness[keep])  # fmt: skip
    assert named(fewer) == [("unlabelled-image", "3.jpg")]


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_confused_classes_are_told(share: float) -> None:
    view = evidence()
    ids = view.detections.class_ids.copy()
    ants = np.flatnonzero(ids == 0)
    ids[ants[: int(share * len(ants)) + 2]] = 1
    found = list(detector_faults(replace(view, detections=replace(view.detections, class_ids=ids)), Path("data"), 0.3))
    assert [item.message.partition(" (")[0] for item in found if item.kind == "confused-classes"] == [
        f"{int(share * len(ants)) + 2} of {len(ants)} ant"
    ]
