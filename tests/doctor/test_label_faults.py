"""Faults that labels and splits show without a detector: a clean set gives none, each planted one is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from singleshot.core.structures import Sample
from singleshot.data import Problem
from singleshot.doctor.findings import Finding, from_problem, sort_findings
from singleshot.doctor.label_faults import label_faults, twin_findings
from singleshot.doctor.near_duplicates import Twins

NAMES = ("person", "dog")
WHERE = Path("data")


def sample(name: str, boxes: Sequence[Sequence[float]], ids: Sequence[int]) -> Sample:
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(Path(f"{name}.jpg"), (300, 400), corners, np.array(ids, dtype=np.int64), source=f"{name}.xml:1")


def clean(count: int = 30) -> list[Sample]:
    rng = np.random.default_rng(0)
    sizes = rng.uniform(30, 60, (count, 2, 2))
    return [
        sample(f"{i}", [[10, 10, 10 + w, 10 + h], [200, 100, 200 + v, 100 + u]], [0, 1])
        for i, ((w, h), (v, u)) in enumerate(sizes.tolist())
    ]


def members(samples: Sequence[Sample], held_out: int = 12) -> dict[str, list[str]]:
    paths = [str(item.image_path) for item in samples]
    return {"train": paths[held_out:], "val": paths[:held_out]}


def kinds(samples: Sequence[Sample], names: Sequence[str] = NAMES) -> list[str]:
    return [item.kind for item in label_faults(samples, names, members(samples), WHERE)]


def test_no_pictures_no_findings() -> None:
    assert list(label_faults([], (), {}, WHERE)) == []


def test_a_clean_set_has_none() -> None:
    assert kinds(clean()) == []


@pytest.mark.parametrize(
    ("boxes", "ids", "kind"),
    [
        ([[10, 10, 60, 60], [11, 11, 60, 60]], [0, 0], "duplicate-label"),
        ([[10, 10, 60, 60], [10, 10, 60, 60]], [0, 1], "two-classes"),
        ([[0, 10, 400, 16]], [0], "odd-box"),
        ([[10, 10, 12, 12]], [1], "odd-box"),
    ],
)
def test_faults_of_boxes(boxes: list[list[float]], ids: list[int], kind: str) -> None:
    found = list(label_faults([*clean(), sample("bad", boxes, ids)], NAMES, members(clean()), WHERE))
    assert [item.kind for item in found] == [kind]
    assert found[0].where == "bad.xml:1"
    assert found[0].places[0].boxes_xyxy[0] == tuple(boxes[0])
    assert found[0].remedy


def test_people_side_by_side_are_two() -> None:
    assert kinds([*clean(), sample("two", [[10, 10, 60, 60], [20, 10, 70, 60]], [0, 0])]) == []


def test_scarce_classes() -> None:
    cats = [sample(f"c{i}", [[5, 5, 50, 50]], [2]) for i in range(3)]
    samples = [*clean(), *cats]
    found = list(label_faults(samples, (*NAMES, "cat", "bird"), members(samples), WHERE))
    messages = {(item.kind, item.message.partition(":")[0]) for item in found}
    assert messages == {("few-objects", "cat"), ("class-not-measured", "cat"), ("class-not-trained", "bird")}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("person", "persom", True),
        ("bicycle", "bicycles", True),
        ("helmet", "hemlet", True),
        ("cell1", "cell2", False),
        ("car", "cat", False),
        ("snowboard", "skateboard", False),
    ],
)
def test_slips_of_spelling(one: str, other: str, alike: bool) -> None:
    assert ("alike-spelling" in kinds(clean(), (one, other))) is alike


def test_copies_leak_only_from_training_to_held_out() -> None:
    samples = clean(4)
    twins = [Twins(0, 1, exact=True, likeness=1.0), Twins(0, 3, exact=False, likeness=0.99)]
    found = list(twin_findings(twins, samples, members(samples, held_out=2)))
    assert [(item.kind, item.severity) for item in found] == [("twin-images", "warning"), ("leak", "error")]
    # a trainval that holds val by its name is no leak
    both = {"trainval": ["0.jpg", "1.jpg"], "val": ["0.jpg", "1.jpg"]}
    assert [item.kind for item in twin_findings(twins[:1], samples, both)] == ["twin-images"]


def test_the_worst_comes_first() -> None:
    noted = Problem(Path("b.txt"), 3, "edge", "noted", "clipped")
    skipped = Problem(Path("a.txt"), 1, "outside", "skipped", "outside the image")
    found = sort_findings([from_problem(noted), from_problem(skipped)])
    assert [item.severity for item in found] == ["error", "note"]
    assert isinstance(found[0], Finding)
    assert found[0].where == "a.txt:1"
