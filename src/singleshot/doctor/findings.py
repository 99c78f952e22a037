"""What may be wrong with a data set, or with a detector on it: one record for each finding, by kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.registry import Registry
from singleshot.core.structures import Sample
from singleshot.data import Problem

Severity = Literal["error", "warning", "note"]
"""``error``: numbers cannot be trusted, or something is lost. ``warning``: likely a fault. ``note``: worth knowing."""
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class FindingKind(NamedTuple):
    """What all findings of a kind have in common.

    Attributes:
        title: what they are, in the plural.
        severity: how bad.
        remedy: what to do.
    """

    title: str
    severity: Severity
    remedy: str


KINDS: Registry[FindingKind] = Registry("finding", {})
"""Kinds by name, in the order in which they are told; those of ``data check`` come besides."""


def _add(name: str, severity: Severity, title: str, remedy: str) -> None:
    KINDS.register(name)(FindingKind(title, severity, remedy))


_add(
    "leak",
    "error",
    "pictures in a training and in a held-out split",
    "keep each picture (and all frames of a scene) in one split: until then AP on the held-out split is too high",
)
_add(
    "class-not-trained",
    "error",
    "classes without an object to learn from",
    "move some of their pictures into the training split, or leave the class out by `classes`",
)
_add(
    "wrong-class",
    "warning",
    "boxes whose class is likely wrong",
    "look at them, the likeliest first, and correct the class in the label file",
)
_add(
    "no-object",
    "warning",
    "boxes in which the detector sees nothing",
    "remove the box if it is empty; leave it if the object is merely hard to see",
)
_add(
    "misplaced-box",
    "warning",
    "boxes that likely lie beside their object",
    "redraw the box; the detector's is drawn beside it",
)
_add(
    "missing-label",
    "warning",
    "objects that likely have no label",
    "draw the missing box: as it is, training teaches that this is background",
)
_add(
    "unlabelled-image",
    "warning",
    "pictures without labels that likely show objects",
    "label them, or take them out of the data set",
)
_add("duplicate-label", "warning", "objects labelled twice with the same class", "remove one of the two boxes")
_add("two-classes", "warning", "objects labelled with two classes", "remove the box with the wrong class")
_add(
    "odd-box",
    "warning",
    "boxes of a size or shape that no other object of their class has",
    "redraw the box if a corner slipped",
)
_add(
    "twin-images",
    "warning",
    "pictures that are there twice in a split",
    "keep one of them: the copies count twice in training and in AP",
)
_add("alike-spelling", "warning", "class names that may be one", "give the class one spelling in all label files")
_add(
    "few-objects",
    "warning",
    "classes with hardly an object to learn from",
    "label more pictures with them: expect little of a class with fewer than ten",
)
_add(
    "class-not-measured",
    "warning",
    "classes without an object to measure on",
    "move some of their pictures into the held-out split: AP says nothing about them",
)
_add("low-ap", "warning", "reasons why AP is near zero", "mend this first: the other findings follow from it")
_add(
    "uncovered",
    "warning",
    "classes whose objects no default box covers",
    "`singleshot anchors` fits the default boxes; a larger `size`, or tiles, help small objects",
)
_add(
    "confused-classes",
    "note",
    "classes that are taken for each other",
    "look whether both are labelled by one rule; more pictures of the rarer one help, or make them one class",
)
_add(
    "missed-size",
    "note",
    "sizes of objects that are mostly missed",
    "small objects need a larger `size`, or tiles: `tile='auto'`; large ones coarser default boxes",
)
_add("threshold", "note", "score thresholds with the best F1", "give the detector this `score` in `predict`")


class Place(NamedTuple):
    """Where in a picture to look.

    Attributes:
        image: the file.
        boxes_xyxy: in pixels of the upright picture; none where all of it is meant.
        labels: what to write at each box.
    """

    image: Path
    boxes_xyxy: tuple[tuple[float, float, float, float], ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that may be wrong.

    Attributes:
        kind: a name in ``KINDS``, or a kind of ``singleshot data check``.
        message: what is there, with the values.
        where: label file with its line, a picture, or the data set.
        places: what to look at.
        suspicion: how likely it is a fault, compared with others of its kind, 0..1.
        severity, title, remedy: those of the kind.
    """

    kind: str
    message: str
    where: str = ""
    places: tuple[Place, ...] = ()
    suspicion: float = 1.0
    severity: Severity = field(default="note", compare=False)
    title: str = field(default="", compare=False)
    remedy: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "message": self.message,
            "remedy": self.remedy,
            "where": self.where,
            "suspicion": round(float(self.suspicion), 4),
            "images": [
                {
                    "file": str(place.image),
                    "boxes_xyxy": [[round(float(side), 2) for side in box] for box in place.boxes_xyxy],
                    "labels": list(place.labels),
                }
                for place in self.places
            ],
        }


def finding(
    kind: str, message: str, where: object = "", places: Iterable[Place] = (), suspicion: float = 1.0
) -> Finding:
    """A finding of one of our ``KINDS``."""
    title, severity, remedy = KINDS.get(kind)
    return Finding(kind, message, str(where), tuple(places), suspicion, severity, title, remedy)


_OF_ACTION: dict[str, Severity] = {"skipped": "error", "repaired": "warning", "noted": "note"}
_REMEDIES = {
    "skipped": "mend the record, or remove it: it is left out",
    "repaired": "mend the record: training and `eval` read it as said here",
    "noted": "nothing is lost; look whether it is meant so",
}


def from_problem(problem: Problem) -> Finding:
    """A bad record that was found when the data set was opened, in the form of a finding."""
    is_leak = problem.kind == "shared-image"
    is_picture = is_leak or problem.kind == "undecodable-image"
    places = (Place(problem.file),) if is_picture else ()
    if is_leak:
        return finding("leak", f"{problem.file.name} {problem.message}", problem.file, places)
    action = problem.action
    remedy = _REMEDIES[action]
    title = f"records {action}: {problem.kind}"
    return Finding(problem.kind, problem.message, problem.where, places, 1.0, _OF_ACTION[action], title, remedy)


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst severity first, then by kind, then the likeliest."""
    own = {name: index for index, name in enumerate(KINDS.names())}

    def key(item: Finding) -> tuple[int, int, str, float, str, str]:
        place = own.get(item.kind, -1)
        return (SEVERITIES.index(item.severity), place, item.kind, -item.suspicion, item.where, item.message)

    return tuple(sorted(findings, key=key))


def place_of(sample: Sample, *boxes: tuple[Sequence[float] | NDArray[np.floating], str]) -> Place:
    """A picture and boxes in it, each with what to write at it."""
    corners = [tuple(map(float, box)) for box, _ in boxes]
    return Place(sample.image_path, tuple((b[0], b[1], b[2], b[3]) for b in corners), tuple(text for _, text in boxes))
