"""Images with what should have been found and what was."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from singleshot.evaluation.metrics import DetectionTable, GroundTruth
from singleshot.evaluation.metrics.voc import RIGHT, WRONG, Matching
from singleshot.evaluation.numbers import Measured
from singleshot.images.read import read_image

FOUND, MISSED, GOOD, BAD = (255, 255, 255), (255, 176, 0), (24, 178, 107), (229, 57, 53)
"""RGB of found objects, missed objects, right detections, wrong detections."""

LEGEND = (
    "Images with the most mistakes first, at the score threshold with the best F1. Solid green: right detection. Solid "
    "red: wrong detection, with its score. Dashed white: object that was found. Dashed orange: missed object."
)


class Mistakes(NamedTuple):
    """What is wrong at a score threshold.

    Attributes:
        missed: objects that should have been found, rows of the ground truth.
        wrong: detections that should not be there, rows of the detections.
        by_image: how many of both each image has, ``[I]``.
    """

    missed: np.ndarray
    wrong: np.ndarray
    by_image: np.ndarray


def find_mistakes(
    truth: GroundTruth, detections: DetectionTable, matching: Matching, score_threshold: float
) -> Mistakes:
    """Count missed objects and wrong detections of each image.

    Args:
        truth: objects.
        detections: detections.
        matching: what became of them.
        score_threshold: detections below do not exist.
    """
    shown = detections.scores >= score_threshold
    sought = ~truth.ignored
    sought[matching.objects[shown & (matching.outcome == RIGHT)]] = False
    missed = np.flatnonzero(sought)
    wrong = np.flatnonzero(shown & (matching.outcome == WRONG))
    images = np.concatenate([truth.image_index[missed], detections.image_index[wrong]])
    return Mistakes(missed, wrong, np.bincount(images, minlength=truth.image_count))


def draw_comparison(result: Measured, image: int, mistakes: Mistakes) -> np.ndarray:
    """One image with its objects and its detections at the best common threshold.

    Args:
        result: the evaluation.
        image: which sample.
        mistakes: at the same threshold.

    Returns:
        RGB, ``[H, W, 3]`` uint8.

    Raises:
        ImageError: the image file cannot be read any more.
    """
    from singleshot.images.draw import draw_box, draw_label

    truth, table = result.truth, result.detections
    picture = np.ascontiguousarray(read_image(result.samples[image].image_path)).copy()
    for row in np.flatnonzero((truth.image_index == image) & ~truth.iscrowd):
        missed = row in mistakes.missed
        draw_box(picture, truth.boxes_xyxy[row], MISSED if missed else FOUND, dashed=True)
        if missed:
            draw_label(picture, truth.boxes_xyxy[row], f"{result.class_names[truth.class_ids[row]]}?", MISSED)
    shown = (table.image_index == image) & (table.scores >= result.metrics.best_threshold)
    rows = np.flatnonzero(shown & (result.metrics.matching.outcome != -1))
    for row in rows[np.argsort(table.scores[rows], kind="stable")]:
        wrong = row in mistakes.wrong
        draw_box(picture, table.boxes_xyxy[row], BAD if wrong else GOOD)
        if wrong:
            label = f"{result.class_names[table.class_ids[row]]} {table.scores[row]:.2f}"
            draw_label(picture, table.boxes_xyxy[row], label, BAD)
    return picture
