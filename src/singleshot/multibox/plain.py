"""The multibox core a second time, written plainly: Python loops over images, anchors, objects and classes."""

from __future__ import annotations

import math

from torch import Tensor

SSD300_MAPS = ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1))
SSD512_MAPS = tuple((side, side) for side in (64, 32, 16, 8, 4, 2, 1))


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def corners(anchor: list[float]) -> list[float]:
    x, y, w, h = anchor
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def match(table: list[list[float]], positive_iou: float | None, loose: bool, forced: str, least: float) -> list[int]:
    """Object of each anchor or -1; ``table[a][m]`` is the IoU of an anchor with an object."""
    anchors, objects = len(table), len(table[0]) if table else 0
    chosen = [-1] * anchors
    if positive_iou is not None and objects:
        for a in range(anchors):
            best = max(range(objects), key=lambda m: table[a][m])
            if table[a][best] > positive_iou or (loose and table[a][best] == positive_iou):
                chosen[a] = best
    if forced == "last_wins":
        for m in range(objects):
            chosen[max(range(anchors), key=lambda a: table[a][m])] = m
    if forced == "bipartite":
        free_anchors, free_objects = set(range(anchors)), set(range(objects))
        while free_anchors and free_objects:
            a, m = max(
                ((a, m) for a in free_anchors for m in free_objects), key=lambda p: (table[p[0]][p[1]], -p[0], -p[1])
            )
            if table[a][m] <= least:
                break
            chosen[a] = m
            free_anchors.remove(a)
            free_objects.remove(m)
    return chosen


def nms(boxes: list[list[float]], scores: list[float], groups: list[int], threshold: float, strict: bool) -> list[int]:
    """Survivors, best first. ``strict``: a box at exactly the threshold is suppressed as well."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        for j in kept:
            overlap = iou(boxes[i], boxes[j])
            if groups[i] == groups[j] and (overlap > threshold or (strict and overlap == threshold)):
                break
        else:
            kept.append(i)
    return kept


def cross_entropy(logits: list[float], column: int) -> float:
    peak = max(logits)
    return peak + math.log(sum(math.exp(x - peak) for x in logits)) - logits[column]


def multibox_loss(
    codes: Tensor, logits: Tensor, anchors: Tensor, boxes: list[Tensor], class_ids: list[Tensor],
    ratio: float = 3.0, minimum: int = 3, negative_iou: float = 0.5,
) -> tuple[float, float, int]:  # fmt: skip
    """(classification, localization, positives) of SSD eq. 1 to 3 with greedy matching and mining."""
    classification = localization = 0.0
    positives = 0
    for b in range(len(codes)):
        cells = anchors.tolist()
        table = [[iou(corners(anchor), box) for box in boxes[b].tolist()] for anchor in cells]
        chosen = match(table, 0.5, True, "bipartite", 1e-6)
        rows = logits[b].tolist()
        own = [a for a, m in enumerate(chosen) if m >= 0]
        others = [a for a, m in enumerate(chosen) if m < 0 and max(table[a], default=0.0) < negative_iou]
        others.sort(key=lambda a: -cross_entropy(rows[a], 0))
        classification += sum(cross_entropy(rows[a], 0) for a in others[: max(int(ratio * len(own)), minimum)])
        for a in own:
            classification += cross_entropy(rows[a], int(class_ids[b][chosen[a]]) + 1)
            x0, y0, x1, y1 = boxes[b][chosen[a]].tolist()
            x, y, w, h = cells[a]
            goal = [((x0 + x1) / 2 - x) / w / 0.1, ((y0 + y1) / 2 - y) / h / 0.1]
            goal += [math.log((x1 - x0) / w) / 0.2, math.log((y1 - y0) / h) / 0.2]
            for predicted, wanted in zip(codes[b, a].tolist(), goal, strict=True):
                apart = abs(predicted - wanted)
                localization += apart * apart / 2 if apart < 1 else apart - 0.5
        positives += len(own)
    return classification / max(1, positives), localization / max(1, positives), positives
