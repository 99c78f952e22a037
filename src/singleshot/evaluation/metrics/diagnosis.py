"""Why the numbers are near zero: the questions one would ask first, answered from the data."""

from __future__ import annotations

import numpy as np

from singleshot.evaluation.metrics.overlaps import overlapping_pairs
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth

LOW_AP = 0.02
SURE = 0.3


def diagnose(
    truth: GroundTruth, detections: DetectionTable, average_precision: float, sizes_hw: np.ndarray
) -> tuple[str, ...]:
    """Explain a very low average precision.

    Args:
        truth: objects.
        detections: detections.
        average_precision: of the evaluation; above 0.02 nothing is said.
        sizes_hw: image sizes, ``[I, 2]``.

    Returns:
        One sentence per finding, the likeliest cause first; empty if all is well.
    """
    if not len(truth):
        return ("The data set has no objects of the evaluated classes, so nothing can be measured.",)
    if average_precision > LOW_AP:
        return ()
    if not len(detections):
        return ("The detector found nothing at all: its scores are all below the threshold; is it trained?",)
    found = []
    if detections.scores.max() < SURE:
        found.append(f"The best score of all is {detections.scores.max():.3f}: the detector is hardly trained.")
    places = overlapping_pairs(truth, detections, 0.5, same_class=False)
    named = truth.class_ids[places.objects] == detections.class_ids[places.detections]
    hit, right = (len(np.unique(rows)) / len(truth) for rows in (places.objects, places.objects[named]))
    if hit > 0.3 and right < hit / 3:
        found.append(
            f"{hit:.0%} of the objects are found in place, but only {right:.0%} with the right class: the order of the "
            "classes probably differs between training and this data set."
        )
    if hit < 0.1:
        found.append(
            f"Only {hit:.0%} of the objects overlap any detection by half; {_ranges(truth, detections, sizes_hw)}"
        )
    return tuple(found)


def _ranges(truth: GroundTruth, detections: DetectionTable, sizes_hw: np.ndarray) -> str:
    """How large boxes are, which shows other units or a lost scale."""

    def median_side(boxes: np.ndarray) -> float:
        sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).clip(min=0)
        return float(np.median(np.sqrt(sides.prod(axis=1))))

    height, width = np.median(sizes_hw, axis=0) if len(sizes_hw) else (0, 0)
    return (
        f"the median object is {median_side(truth.boxes_xyxy):.0f} pixels wide and high, the median detection "
        f"{median_side(detections.boxes_xyxy):.0f}, the median image {width:.0f} x {height:.0f}."
    )
