"""The likeliest label mistakes: where a detector that is sure of itself contradicts the labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.evaluation.metrics.overlaps import Pairs, overlapping_pairs
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth

KINDS = ("class", "missing", "nothing there", "place")
"""Another class is seen there; an object without a label; a label that no detection touches; a box that fits badly."""

SAME_IOU, TOUCHES_IOU = 0.5, 0.1
SURE = 0.3
LARGE_PX = 96.0
"""A label of this side or more that no detection touches is half as suspicious as a sure contradiction."""


class Contradictions(NamedTuple):
    """Labels and places to look at, the likeliest mistakes first.

    Attributes:
        kinds: positions in `KINDS`, ``[M]``.
        images: ``[M]``.
        objects: rows of the ground truth, -1 of an object without a label, ``[M]``.
        detections: rows of the detections that contradict, -1 where none does, ``[M]``.
        scores: 0 to 1, for the order only, ``[M]``.
    """

    kinds: NDArray[np.int64]
    images: NDArray[np.int64]
    objects: NDArray[np.int64]
    detections: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.kinds)


def find_contradictions(truth: GroundTruth, found: DetectionTable, known: NDArray[np.bool_]) -> Contradictions:
    """Rank the contradictions between labels and detections of the same images.

    A detection that fits an object of its own class explains itself and accuses nobody: a rider and a horse overlap.

    Args:
        truth: the labelled objects; crowds and difficult ones are never suspects.
        found: detections, also weak ones, with the classes of ``truth``.
        known: which classes the detector can find, ``[C]``.
    """
    pairs = overlapping_pairs(truth, found, TOUCHES_IOU, same_class=False, crowd_by_detection=True)
    same = truth.class_ids[pairs.objects] == found.class_ids[pairs.detections]
    close = pairs.overlaps >= SAME_IOU
    explained = np.zeros(len(found), dtype=bool)
    explained[pairs.detections[same & close]] = True
    judged = ~truth.ignored & known[truth.class_ids]
    own = _best(pairs, same & close, found.scores, len(truth))[0]
    free = ~explained[pairs.detections]
    other, accuser = _best(pairs, ~same & close & free, found.scores, len(truth))
    near, placed = _best(pairs, same & ~close & free, found.scores, len(truth))
    by_class = np.flatnonzero(judged & (other >= SURE) & (other > own))
    by_place = np.flatnonzero(judged & (near >= SURE) & (own == 0) & (other <= near))
    touched = np.zeros(len(truth), dtype=bool)
    touched[pairs.objects] = True
    alone = np.flatnonzero(judged & ~touched)
    met = np.zeros(len(found), dtype=bool)
    met[pairs.detections[pairs.overlaps >= SURE]] = True
    unlabelled = np.flatnonzero(~met & (found.scores >= SAME_IOU))
    side = np.sqrt(truth.areas[alone].astype(np.float64))
    none = np.full(len(unlabelled), -1)
    parts = [
        (0, truth.image_index[by_class], by_class, accuser[by_class], (other - own)[by_class]),
        (1, found.image_index[unlabelled], none, unlabelled, found.scores[unlabelled]),
        (2, truth.image_index[alone], alone, np.full(len(alone), -1), np.minimum(side / LARGE_PX, 1) / 2),
        (3, truth.image_index[by_place], by_place, placed[by_place], near[by_place] / 2),
    ]
    kinds = np.concatenate([np.full(len(part[1]), part[0]) for part in parts])
    images, objects, detections, scores = (np.concatenate([part[at] for part in parts]) for at in (1, 2, 3, 4))
    order = np.argsort(-scores, kind="stable")
    return Contradictions(*(column[order] for column in (kinds, images, objects, detections, scores)))


def _best(
    pairs: Pairs, rows: NDArray[np.bool_], scores: NDArray[np.floating], objects: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The surest detection of each object among some pairs, and its score; 0 and -1 without one."""
    best, which = np.zeros(objects), np.full(objects, -1)
    mine, theirs = pairs.objects[rows], pairs.detections[rows]
    order = np.argsort(scores[theirs], kind="stable")  # of several values for one place the last stays
    best[mine[order]] = scores[theirs[order]]
    which[mine[order]] = theirs[order]
    return best, which
