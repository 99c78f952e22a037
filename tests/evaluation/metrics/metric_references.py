"""Made-up data sets, and the metrics again as plain loops that share no code with the package."""

from __future__ import annotations

import contextlib
import io

import numpy as np

from singleshot.evaluation.metrics import DetectionTable, GroundTruth


def invent(
    seed: int,
    images: int = 40,
    classes: int = 4,
    *,
    whole_pixels: bool = False,
    equal_scores: bool = False,
    crowd: float = 0.0,
    difficult: float = 0.0,
) -> tuple[GroundTruth, DetectionTable]:
    """Objects of all sizes, jittered copies of them and noise, in random order."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(images), rng.poisson(5, images))
    count = len(index)
    corner, sides = rng.uniform(0, 300, (count, 2)), np.exp(rng.uniform(2, 5.5, (count, 2)))
    boxes = np.concatenate([corner, corner + sides], axis=1)
    labels = rng.integers(0, classes, count)
    source = np.repeat(np.arange(count), rng.integers(0, 4, count))
    near = boxes[source] + rng.normal(0, 0.1, (len(source), 4)) * np.tile(sides[source], 2)
    noise = rng.uniform(0, 300, (images * 4, 2))
    far = np.concatenate([noise, noise + rng.uniform(5, 200, noise.shape)], axis=1)
    found = np.concatenate([near, far])
    found[:, :2] = np.minimum(found[:, :2], found[:, 2:] - 1)
    if whole_pixels:
        boxes, found = boxes.round(), found.round()
    names = np.where(rng.random(len(source)) < 0.9, labels[source], rng.integers(0, classes, len(source)))
    scores = rng.random(len(found))
    order = rng.permutation(len(found))
    return (
        GroundTruth(index, labels, boxes, images, rng.random(count) < difficult, rng.random(count) < crowd),
        DetectionTable(
            np.concatenate([index[source], rng.integers(0, images, len(far))])[order],
            np.concatenate([names, rng.integers(0, classes, len(far))])[order],
            found[order],
            (scores.round(1) if equal_scores else scores)[order],
        ),
    )


def loop_iou(a: np.ndarray, b: np.ndarray, extra: float) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + extra
    height = min(a[3], b[3]) - max(a[1], b[1]) + extra
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + extra) * (box[3] - box[1] + extra) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def loop_voc(
    truth: GroundTruth, table: DetectionTable, label: int, *, strict: bool = False, extra: float = 0.0
) -> tuple[float, float]:
    """VOC 2007 and area AP of one class, detection by detection, as the devkit's text describes them."""
    objects = {
        image: [row for row in np.flatnonzero(truth.image_index == image) if truth.class_ids[row] == label]
        for image in range(truth.image_count)
    }
    total = sum(not truth.difficult[row] for rows in objects.values() for row in rows)
    if not total:
        return float("nan"), float("nan")
    used: set[int] = set()
    marks = []
    rows = [row for row in range(len(table)) if table.class_ids[row] == label]
    for row in sorted(rows, key=lambda row: -table.scores[row]):
        best, best_iou = None, 0.0
        for candidate in objects[int(table.image_index[row])]:
            iou = loop_iou(table.boxes_xyxy[row], truth.boxes_xyxy[candidate], extra)
            if iou > best_iou:
                best, best_iou = candidate, iou
        if best is not None and (best_iou > 0.5 if strict else best_iou >= 0.5):
            if truth.difficult[best]:
                continue
            marks.append(best not in used)
            used.add(best)
        else:
            marks.append(False)
    points = [(sum(marks[:k]) / total, sum(marks[:k]) / k) for k in range(1, len(marks) + 1)]
    eleven = sum(max((p for r, p in points if r >= t / 10), default=0.0) for t in range(11)) / 11
    area, before = 0.0, 0.0
    for place, (recall, _) in enumerate(points):
        area += (recall - before) * max(p for _, p in points[place:])
        before = recall
    return eleven, area


def peer_coco(truth: GroundTruth, table: DetectionTable, classes: int, peer: str) -> np.ndarray:
    """The twelve numbers of ``pycocotools`` or ``faster_coco_eval``, then AP by class; -1 where undefined."""
    if peer == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval

    def record(rows: GroundTruth | DetectionTable, row: int) -> dict[str, object]:
        x0, y0, x1, y1 = (float(value) for value in rows.boxes_xyxy[row])
        label = {"image_id": int(rows.image_index[row]) + 1, "category_id": int(rows.class_ids[row]) + 1}
        return {**label, "bbox": [x0, y0, x1 - x0, y1 - y0]}

    labels = COCO()
    labels.dataset = {
        "images": [{"id": index + 1} for index in range(truth.image_count)],
        "categories": [{"id": index + 1} for index in range(classes)],
        "annotations": [
            record(truth, row) | {"id": row + 1, "area": float(truth.areas[row]), "iscrowd": int(truth.iscrowd[row])}
            for row in range(len(truth))
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        labels.createIndex()
        results = labels.loadRes(
            [record(table, row) | {"score": float(table.scores[row])} for row in range(len(table))]
        )
        evaluator = COCOeval(labels, results, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    by_class = evaluator.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1))
    return np.concatenate([evaluator.stats[:12], by_class])
