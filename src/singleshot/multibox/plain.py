"""Start here: SSD's algorithm (arXiv 1512.02325, section 2.2) said plainly, in loops over images, anchors and objects.

Training asks which anchor (default box) learns which object (`match`), which of the many others learn background
(`mine`), and how wrong the network is about both (`multibox_loss`). Inference asks which boxes the network means
(`decode`), and which of those that overlap to keep (`nms`, `detect`).

All values are lists of numbers. A box is ``[x0, y0, x1, y1]``, an anchor ``[centre x, centre y, width, height]`` in the
same unit; column 0 of an anchor's logits is background. This is the definition: the modules that do the same for whole
batches, quickly, are tested against it, and nothing else uses it. ``python -m singleshot.multibox.plain`` runs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product

Row = Sequence[float]  # a box, an anchor, the four codes of a box, or the logits of an anchor
VARIANCES = (0.1, 0.1, 0.2, 0.2)  # what codes are divided by, so that they are about as large as logits


def corners(anchor: Row) -> list[float]:
    """The box of an anchor."""
    x, y, width, height = anchor
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def iou(a: Row, b: Row) -> float:
    """Intersection over union (Jaccard overlap) of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def encode(box: Row, anchor: Row) -> list[float]:
    """What a head should say to turn an anchor into a box (eq. 2): offset of the centre, log ratio of the sides."""
    x, y, width, height = anchor
    code = [((box[0] + box[2]) / 2 - x) / width, ((box[1] + box[3]) / 2 - y) / height]
    code += [math.log((box[2] - box[0]) / width), math.log((box[3] - box[1]) / height)]
    return [value / variance for value, variance in zip(code, VARIANCES, strict=True)]


def decode(code: Row, anchor: Row) -> list[float]:
    """The box that a head means; undoes `encode`."""
    dx, dy, dw, dh = (value * variance for value, variance in zip(code, VARIANCES, strict=True))
    x, y, width, height = anchor
    return corners([x + dx * width, y + dy * height, width * math.exp(dw), height * math.exp(dh)])


def match(
    overlaps: Sequence[Row],
    positive_iou: float | None = 0.5,
    compare: str = ">=",
    forced: str = "bipartite",
    min_forced_iou: float = 1e-6,
) -> list[int]:
    """Object that each anchor learns, -1 for none ("Matching strategy"); settings as in `MatchConfig`.

    ``overlaps`` is the IoU of every anchor with every object, ``[A][M]``.
    """
    anchors, objects = range(len(overlaps)), range(len(overlaps[0]) if overlaps else 0)
    matched = [-1] * len(overlaps)
    if positive_iou is not None and objects:
        for a in anchors:  # an anchor takes the object that it overlaps most, if it does so enough
            best = max(overlaps[a])
            if best > 0 and (best > positive_iou or (compare == ">=" and best == positive_iou)):
                matched[a] = list(overlaps[a]).index(best)
    if forced == "last_wins":
        for m in objects:  # whatever the overlap, every object has its best anchor
            matched[max(anchors, key=lambda a: overlaps[a][m])] = m
    if forced == "bipartite":
        pairs = sorted(product(anchors, objects), key=lambda pair: -overlaps[pair[0]][pair[1]])
        free_anchors, free_objects = set(anchors), set(objects)
        for a, m in pairs:  # whatever the overlap, every object has an anchor of its own, the best pairs first
            if a in free_anchors and m in free_objects and overlaps[a][m] > min_forced_iou:
                matched[a] = m
                free_anchors.remove(a)
                free_objects.remove(m)
    return matched


def mine(hardness: Row, eligible: Iterable[int], num_negatives: int) -> list[int]:
    """The hardest of some anchors ("Hard negative mining"), equally hard ones by the lower index."""
    return sorted(eligible, key=lambda a: -hardness[a])[:num_negatives]


def cross_entropy(logits: Row, column: int) -> float:
    """Softmax loss of one anchor (eq. 3)."""
    peak = max(logits)
    return peak + math.log(sum(math.exp(logit - peak) for logit in logits)) - logits[column]


def smooth_l1(code: Row, target: Row) -> float:
    """Box loss of one anchor (eq. 2): squared where it is small, linear where it is large."""
    apart = [abs(value - wanted) for value, wanted in zip(code, target, strict=True)]
    return sum(d * d / 2 if d < 1 else d - 0.5 for d in apart)


def multibox_loss(
    codes: Sequence[Sequence[Row]],
    logits: Sequence[Sequence[Row]],
    anchors: Sequence[Row],
    boxes: Sequence[Sequence[Row]],
    class_ids: Sequence[Sequence[int]],
    negative_ratio: float = 3.0,
    min_negatives: int = 3,
    negative_iou: float = 0.5,
) -> tuple[float, float, int]:
    """Classification loss, localization loss (eq. 1 is their sum), number of positives; settings as in `LossConfig`.

    The heads predict ``codes [B][A][4]`` and ``logits [B][A][K]``. Each of the B images has its own number of objects,
    ``boxes [B][M][4]`` with ``class_ids [B][M]`` 0..K-2; none is normal.
    """
    classification = localization = 0.0
    num_positives = 0
    for b in range(len(codes)):
        overlaps = [[iou(corners(anchor), box) for box in boxes[b]] for anchor in anchors]
        matched = match(overlaps)
        positives = [a for a, m in enumerate(matched) if m >= 0]
        eligible = [a for a, m in enumerate(matched) if m < 0 and max(overlaps[a], default=0.0) < negative_iou]
        background = [cross_entropy(row, 0) for row in logits[b]]
        negatives = mine(background, eligible, max(int(negative_ratio * len(positives)), min_negatives))
        classification += sum(background[a] for a in negatives)
        for a in positives:
            m = matched[a]
            classification += cross_entropy(logits[b][a], class_ids[b][m] + 1)
            localization += smooth_l1(codes[b][a], encode(boxes[b][m], anchors[a]))
        num_positives += len(positives)
    return classification / max(1, num_positives), localization / max(1, num_positives), num_positives


def nms(boxes: Sequence[Row], scores: Row, groups: Row, nms_iou: float = 0.45, compare: str = ">") -> list[int]:
    """Greedy non-maximum suppression: indices of the boxes that stay, best first, equal scores by the lower index.

    A box stays unless it overlaps one of its group (its class) that stays and scores more.
    """
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [iou(boxes[i], boxes[j]) for j in kept if groups[j] == groups[i]]
        if not any(overlap > nms_iou or (compare == ">=" and overlap == nms_iou) for overlap in rivals):
            kept.append(i)
    return kept


def detect(
    codes: Sequence[Row],
    logits: Sequence[Row],
    anchors: Sequence[Row],
    score_threshold: float = 0.01,
    nms_iou: float = 0.45,
    max_detections: int = 200,
) -> list[tuple[float, int, list[float]]]:
    """Score, class and box of what is in one image, best first; settings as in `PostprocessConfig`."""
    candidates = []
    for a, anchor in enumerate(anchors):
        for column in range(1, len(logits[a])):
            score = math.exp(-cross_entropy(logits[a], column))
            if score > score_threshold:
                candidates.append((score, column - 1, decode(codes[a], anchor)))
    scores, class_ids, boxes = ([row[part] for row in candidates] for part in range(3))
    return [candidates[i] for i in nms(boxes, scores, class_ids, nms_iou)][:max_detections]  # type: ignore[arg-type]


def main() -> None:
    """Match, compare and detect in an image of 8 by 8 with one object, seen by four anchors."""
    anchors, box, class_id = [[2, 4, 4, 4], [4, 4, 4, 4], [6, 4, 4, 4], [4, 4, 8, 8]], [3, 2, 7, 7], 1
    codes, logits = [[0.0] * 4] * 4, [[2.0, 0, 0], [0, 0, 3.0], [1.0, 0, 2.0], [2.0, 0, 1.0]]
    overlaps = [[iou(corners(anchor), box)] for anchor in anchors]
    print("object that each anchor learns:", match(overlaps), "by IoU", overlaps)
    print("classification, localization, positives:", multibox_loss([codes], [logits], anchors, [[box]], [[class_id]]))
    print("detections:", detect(codes, logits, anchors, score_threshold=0.3))


if __name__ == "__main__":
    main()
