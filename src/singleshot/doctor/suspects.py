"""Labels that a detector contradicts: which boxes, how strongly, and which of them to tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.doctor.evidence import Evidence
from singleshot.evaluation.metrics.overlaps import overlapping_pairs
from singleshot.evaluation.metrics.tables import GroundTruth

Rows = NDArray[np.int64]

OTHER_CLASS = 0.5
"""The other class has this share at the least, as a part of what objects of that class have on average."""
OWN_CLASS = 0.05
"""The labelled class has no more than this part of what its objects have on average."""
SEEN = 0.05
"""Objectness above which the detector sees something at all."""
SURE = 0.1
"""Least score of a detection that contradicts the labels."""
SURE_PRECISION = 0.9
"""So many of the detections above such a score are labelled objects."""
OF_THE_SUREST, SUREST = 0.94, 50
"""Or nearly as many as of the surest: where many objects have no label, few detections of any score have one."""
OF_THE_LAST, LAST = 0.7, 60
"""And this share of the surest ones' share among the weakest of them: where it falls, false detections begin."""
ELSEWHERE_IOU = 0.3
"""A detection that overlaps no labelled box by so much is of something without a label."""
ON_IOU = 0.5
"""A detection that overlaps a labelled box by so much is of what is in it."""
BESIDE_IOU, BESIDE_SCORE = 0.1, 0.7
"""A detection that is so sure and overlaps a labelled box by at least so much, and by less than half, may be right."""
USUALLY_SEEN, NOT_SEEN = 0.2, 0.02
"""Objectness that most objects of a size have, and that of a box in which there is nothing."""
UNSEEN_SHARE = 0.2
ENOUGH_OF_A_SIZE = 20


class Suspects(NamedTuple):
    """Rows of the evidence, the likeliest fault first, and how likely each is, 0..1.

    Attributes:
        rows: of the objects, or of the detections where nothing is labelled.
        suspicions: of each.
        partners: the detection that contradicts each object, or -1.
    """

    rows: Rows
    suspicions: NDArray[np.float64]
    partners: Rows


def class_suspicions(evidence: Evidence) -> NDArray[np.float64]:
    """How likely each object has a wrong class, 0..1, ``[N]``; for ranking, whether it is told or not.

    It is the share of the labelled class among all classes near the box, compared with what objects of the class have
    on average: the self-confidence of confident learning (arXiv 1911.00068), given that there is an object.
    """
    return np.asarray(1 / (1 + _own_share(evidence)))


def wrong_classes(evidence: Evidence) -> Suspects:
    """Objects that look like another class and not at all like their own."""
    truth, shares = evidence.truth, evidence.class_shares
    relative = shares / _mean_share(evidence).clip(min=SEEN)
    relative[np.arange(len(truth)), truth.class_ids] = 0
    other = relative.max(axis=1, initial=0.0) >= OTHER_CLASS
    told = ~truth.ignored & other & (_own_share(evidence) <= OWN_CLASS) & (evidence.objectness >= SEEN)
    return _ranked(np.flatnonzero(told), class_suspicions(evidence), _accusers(evidence))


def _accusers(evidence: Evidence) -> Rows:
    """The surest detection on each object of the class that it looks like, or -1, ``[N]``."""
    truth, found = evidence.truth, evidence.detections
    pairs = overlapping_pairs(truth, found, ON_IOU, same_class=False)
    accuses = found.class_ids[pairs.detections] == likely_classes(evidence)[pairs.objects]
    objects, detections = pairs.objects[accuses], pairs.detections[accuses]
    order = np.argsort(found.scores[detections], kind="stable")  # of several values for one place the last stays
    partner = np.full(len(truth), -1)
    partner[objects[order]] = detections[order]
    return partner


def likely_classes(evidence: Evidence) -> NDArray[np.int64]:
    """The class that each object looks like most, besides its own, ``[N]``."""
    shares = evidence.class_shares.copy()
    shares[np.arange(len(shares)), evidence.truth.class_ids] = -1
    return np.asarray(shares.argmax(axis=1))


def missing_labels(evidence: Evidence) -> Suspects:
    """Sure detections of any class where nothing is labelled, nor a crowd; of several on one place the surest."""
    found = evidence.detections
    there = _on_labels(evidence)
    sure = found.scores >= _sure_score(found.scores, there)
    told = _ranked(np.flatnonzero(sure & ~there), found.scores.astype(np.float64))
    rows = found.take(told.rows)
    places = GroundTruth(rows.image_index, rows.class_ids, rows.boxes_xyxy, evidence.truth.image_count)
    pairs = overlapping_pairs(places, rows, ON_IOU, same_class=False)
    first = np.ones(len(rows), dtype=bool)
    first[pairs.detections[pairs.objects < pairs.detections]] = False
    return Suspects(told.rows[first], told.suspicions[first], told.partners[first])


def _sure_score(scores: NDArray[np.floating], there: NDArray[np.bool_]) -> float:
    """The least score from which on nearly all detections are on something labelled; above 1 without any."""
    order = np.argsort(-scores, kind="stable")
    right, count = np.concatenate([[0], np.cumsum(there[order])]), np.arange(1, len(order) + 1)
    precision = right[1:] / count
    surest = precision[min(SUREST, len(order)) - 1 :].max(initial=0.0)
    if not surest > 0:
        return 2.0
    good = np.flatnonzero(precision >= min(SURE_PRECISION, OF_THE_SUREST * surest))[-1]
    of_last = (right[1:] - right[np.maximum(count - LAST, 0)]) / np.minimum(count, LAST)
    falls = np.flatnonzero((of_last < OF_THE_LAST * surest) & (count >= SUREST))
    end = min(good, max(falls[0] - LAST, 0)) if len(falls) else good
    return max(SURE, float(scores[order][end]))


def _on_labels(evidence: Evidence) -> NDArray[np.bool_]:
    """Which detections overlap a labelled object, a little for one of their class; or lie in a crowd, ``[D]``.

    An object of a class that the model does not know is labelled, too: it takes it for what it knows.
    """
    truth, found = evidence.truth, evidence.detections
    pairs = overlapping_pairs(truth, found, BESIDE_IOU, same_class=False, crowd_by_detection=True)
    same = truth.class_ids[pairs.objects] == found.class_ids[pairs.detections]
    there = np.zeros(len(found), dtype=bool)
    there[pairs.detections[pairs.overlaps >= np.where(same, BESIDE_IOU, ELSEWHERE_IOU)]] = True
    others = overlapping_pairs(evidence.unknown, found, ELSEWHERE_IOU, same_class=False, crowd_by_detection=True)
    there[others.detections] = True
    return there


def misplaced_boxes(evidence: Evidence) -> Suspects:
    """Objects that no detection fits, while a sure one of their class, of no other object, lies half beside them."""
    truth, found = evidence.truth, evidence.detections
    pairs = overlapping_pairs(truth, found, BESIDE_IOU)
    best_of_object, best_of_detection = np.zeros(len(truth)), np.zeros(len(found))
    np.maximum.at(best_of_object, pairs.objects, pairs.overlaps)
    np.maximum.at(best_of_detection, pairs.detections, pairs.overlaps)
    sure = found.scores >= BESIDE_SCORE
    beside = (
        sure[pairs.detections]
        & (best_of_object[pairs.objects] < ON_IOU)
        & (best_of_detection[pairs.detections] == pairs.overlaps)
        & (evidence.objectness[pairs.objects] < found.scores[pairs.detections] / 2)
        & ~truth.ignored[pairs.objects]
    )
    suspicion, partner = np.zeros(len(truth)), np.full(len(truth), -1)
    order = np.flatnonzero(beside)[np.argsort(found.scores[pairs.detections[beside]], kind="stable")]
    partner[pairs.objects[order]] = pairs.detections[order]
    gap = found.scores[pairs.detections[order]] - evidence.objectness[pairs.objects[order]]
    suspicion[pairs.objects[order]] = gap
    return _ranked(np.flatnonzero(partner >= 0), suspicion, partner)


def empty_boxes(evidence: Evidence) -> Suspects:
    """Objects in which the detector sees nothing of any class, of a size that it nearly always sees."""
    truth, objectness = evidence.truth, evidence.objectness
    sizes = np.floor(np.log2(np.sqrt(truth.areas.astype(np.float64)).clip(min=1)) * 2).astype(np.int64)
    usual = np.zeros(len(truth))
    for size in np.unique(sizes):
        own = sizes == size
        if (own & ~truth.ignored).sum() >= ENOUGH_OF_A_SIZE:
            usual[own] = np.quantile(objectness[own & ~truth.ignored], UNSEEN_SHARE)
    told = ~truth.ignored & (usual >= USUALLY_SEEN) & (objectness <= NOT_SEEN)
    return _ranked(np.flatnonzero(told), 1.0 - objectness)


def _mean_share(evidence: Evidence) -> NDArray[np.float64]:
    """The share that a class has near its own objects on average, ``[S]``; 1 for a class without objects."""
    truth = evidence.truth
    rows = np.flatnonzero(~truth.ignored)
    own = evidence.class_shares[rows, truth.class_ids[rows]]
    count = np.bincount(truth.class_ids[rows], minlength=len(evidence.classes.names))
    total = np.bincount(truth.class_ids[rows], own, len(count))
    return np.where(count > 0, total / np.maximum(count, 1), 1.0)


def _own_share(evidence: Evidence) -> NDArray[np.float64]:
    """The share of each object's class near it, as a part of that class's mean, ``[N]``."""
    ids = evidence.truth.class_ids
    share = evidence.class_shares[np.arange(len(ids)), ids]
    return np.asarray(share / _mean_share(evidence)[ids].clip(min=1e-6))


def _ranked(rows: Rows, suspicions: NDArray[np.floating], partners: Rows | None = None) -> Suspects:
    order = rows[np.argsort(-suspicions[rows], kind="stable")]
    with_whom = np.full(len(order), -1) if partners is None else partners[order]
    return Suspects(order, suspicions[order].astype(np.float64).clip(0, 1), with_whom)


KINDS: dict[str, Callable[[Evidence], Suspects]] = {
    "wrong-class": wrong_classes,
    "no-object": empty_boxes,
    "misplaced-box": misplaced_boxes,
    "missing-label": missing_labels,
}
"""What contradicts the labels, by the kind of finding; rows of ``missing-label`` are detections, others objects."""
