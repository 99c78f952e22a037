"""A second reading of MXNet's detection operators: NumPy float32, one element after the other."""

from __future__ import annotations

import numpy as np

F = np.float32


class Refused(Exception):
    """MXNet's check fails."""


def prior(height, width, sizes=(1,), ratios=(1,), clip=False, steps=(-1, -1), offsets=(0.5, 0.5)):
    if not sizes or not ratios or any(o < 0 or o > 1 for o in offsets) or steps[0] * steps[1] < 0:
        raise Refused
    step_y, step_x = steps if steps[0] > 0 and steps[1] > 0 else (1 / height, 1 / width)
    rows = []
    for row in range(height):
        for column in range(width):
            x, y = F((column + offsets[1]) * step_x), F((row + offsets[0]) * step_y)
            pairs = [(s, ratios[0]) for s in sizes] + [(sizes[0], r) for r in ratios[1:]]
            for size, ratio in pairs:
                w, h = size * height / width * np.sqrt(F(ratio)) / 2, size / np.sqrt(F(ratio)) / 2
                rows.append([x - w, y - h, x + w, y + h])
    boxes = np.array(rows, F)[None]
    return np.clip(boxes, 0, 1) if clip else boxes


def overlap(a, b):
    width = max(F(0), min(a[2], b[2]) - max(a[0], b[0]))
    height = max(F(0), min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return F(0) if union <= 0 else F(both / union)


def target(
    anchor, label, cls_pred, overlap_threshold=0.5, ignore_label=-1.0, negative_mining_ratio=-1.0,
    negative_mining_thresh=0.5, minimum_negative_samples=0, variances=(0.1, 0.1, 0.2, 0.2),
):  # fmt: skip
    batch, count = len(label), anchor.shape[1]
    loc, mask = np.zeros((batch, count, 4), F), np.zeros((batch, count, 4), F)
    classes = np.full((batch, count), ignore_label, F)
    for b in range(batch):
        objects = []
        for row in label[b]:
            if row[0] == -1:
                if not (row[1:5] == -1).all():
                    raise Refused
                break
            objects.append(row)
        if not objects:
            continue
        iou = np.array([[overlap(a, o[1:5]) for o in objects] for a in anchor[0]], F)
        chosen = [-1] * count
        free_objects = set(range(len(objects)))
        while free_objects:
            best, where = F(1e-6), None
            for a in range(count):
                for o in sorted(free_objects):
                    if chosen[a] < 0 and iou[a, o] > best:
                        best, where = iou[a, o], (a, o)
            if where is None:
                break
            chosen[where[0]] = where[1]
            free_objects.remove(where[1])
        if overlap_threshold > 0:
            for a in range(count):
                o = int(iou[a].argmax())
                if chosen[a] < 0 and iou[a, o] > F(overlap_threshold):
                    chosen[a] = o
        positives = sum(c >= 0 for c in chosen)
        if negative_mining_ratio > 0:
            if negative_mining_thresh <= 0:
                raise Refused
            wanted = min(int(F(positives) * F(negative_mining_ratio)), count - positives)
            candidates = [a for a in range(count) if chosen[a] < 0 and iou[a].max() < F(negative_mining_thresh)]
            if len(candidates) < wanted:
                raise Refused
            powers = np.exp(cls_pred[b] - cls_pred[b].max(axis=0))
            background = powers[0] / powers.sum(axis=0)
            for a in sorted(candidates, key=lambda a: background[a])[:wanted]:
                classes[b, a] = 0
        else:
            classes[b] = 0
        for a, o in enumerate(chosen):
            if o < 0:
                continue
            x0, y0, x1, y1 = anchor[0, a]
            aw, ah, ax, ay = x1 - x0, y1 - y0, (x0 + x1) / 2, (y0 + y1) / 2
            g = objects[o]
            gw, gh, gx, gy = g[3] - g[1], g[4] - g[2], (g[1] + g[3]) / 2, (g[2] + g[4]) / 2
            codes = [(gx - ax) / aw, (gy - ay) / ah, np.log(gw / aw), np.log(gh / ah)]
            loc[b, a] = np.array(codes, F) / np.array(variances, F)
            mask[b, a] = 1
            classes[b, a] = g[0] + 1
    return loc.reshape(batch, -1), mask.reshape(batch, -1), classes


def detection(
    cls_prob, loc_pred, anchor, clip=True, threshold=0.01, background_id=0, nms_threshold=0.5, force_suppress=False,
    variances=(0.1, 0.1, 0.2, 0.2), nms_topk=-1,
):  # fmt: skip
    batch, columns, count = cls_prob.shape
    out = np.full((batch, count, 6), -1, F)
    codes = loc_pred.reshape(batch, count, 4)
    for b in range(batch):
        rows = []
        for a in range(count):
            score, best = F(-1), -1
            for c in range(1, columns):
                if cls_prob[b, c, a] > score:
                    score, best = cls_prob[b, c, a], c - 1
            if best < 0 or not score >= F(threshold):
                continue
            x0, y0, x1, y1 = anchor[0, a]
            aw, ah, ax, ay = x1 - x0, y1 - y0, (x0 + x1) / 2, (y0 + y1) / 2
            v, p = np.array(variances, F), codes[b, a]
            x, y = p[0] * v[0] * aw + ax, p[1] * v[1] * ah + ay
            w, h = np.exp(p[2] * v[2]) * aw / 2, np.exp(p[3] * v[3]) * ah / 2
            box = np.array([x - w, y - h, x + w, y + h], F)
            rows.append([best, score, *(np.clip(box, 0, 1) if clip else box)])
        if not rows:
            continue
        out[b, : len(rows)] = rows
        if not 0 < nms_threshold <= 1:
            continue
        ordered = sorted(rows, key=lambda row: -row[1])
        entering = min(nms_topk, len(rows)) if nms_topk > 0 else len(rows)
        out[b, :entering] = ordered[:entering]
        out[b, entering : len(rows), 0] = -1
        for i in range(entering):
            for j in range(i):
                if out[b, j, 0] < 0 or not (force_suppress or ordered[j][0] == ordered[i][0]):
                    continue
                if overlap(np.array(ordered[i][2:], F), np.array(ordered[j][2:], F)) >= F(nms_threshold):
                    out[b, i, 0] = -1
                    break
    return out


def corners(box):
    x, y, w, h = box
    return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2], F)


def centres(box):
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]], F)


def box_nms(
    data, overlap_thresh=0.5, valid_thresh=0.0, topk=-1, coord_start=2, score_index=1, id_index=-1, background_id=-1,
    force_suppress=False, in_format="corner", out_format="corner",
):  # fmt: skip
    if topk == 0:
        return data.copy()
    out = np.full_like(data, -1)
    place = slice(coord_start, coord_start + 4)
    for b, image in enumerate(data):
        rows = [row for row in image if row[score_index] > F(valid_thresh)]
        if id_index >= 0:
            rows = [row for row in rows if row[id_index] != background_id]
        rows = sorted(rows, key=lambda row: -row[score_index])[: topk if topk > 0 else None]
        kept = []
        for row in rows:
            box = corners(row[place]) if in_format == "center" else row[place]
            for other, other_box in kept:
                same = force_suppress or id_index < 0 or row[id_index] == other[id_index]
                if same and overlap(box, other_box) > F(overlap_thresh):
                    break
            else:
                kept.append((row, box))
        for k, (row, _) in enumerate(kept):
            out[b, k] = row
            if in_format != out_format:
                out[b, k, place] = corners(row[place]) if out_format == "corner" else centres(row[place])
    return out


def bipartite(data, threshold, is_ascend=False, topk=-1):
    batch, count, width = data.shape
    row, column = np.full((batch, count), -1, F), np.full((batch, width), -1, F)
    for b in range(batch):
        order = sorted(range(count * width), key=lambda k: data[b].flat[k] if is_ascend else -data[b].flat[k])
        made = 0
        for k in order:
            r, c = divmod(k, width)
            value = data[b, r, c]
            if row[b, r] >= 0 or column[b, c] >= 0:
                continue
            if not (value < F(threshold) if is_ascend else value > F(threshold)):
                break
            row[b, r], column[b, c] = c, r
            made += 1
            if topk > 0 and made > topk:
                break
    return row, column


def softmax_gradient(
    data, label, grad_scale=1.0, ignore_label=-1.0, multi_output=False, use_ignore=False, normalization="null",
    smooth_alpha=0.0,
):  # fmt: skip
    """Probabilities and gradient, ``[B, K, A]`` (A = 1 without multi_output)."""
    batch, classes, places = data.shape
    powers = np.exp(data - data.max(axis=1, keepdims=True))
    probability = powers / powers.sum(axis=1, keepdims=True)
    gradient = probability.copy()
    counted = 0
    for b in range(batch):
        for a in range(places):
            counted += label[b, a] != ignore_label
            for k in range(classes):
                gradient[b, k, a] -= 1 - smooth_alpha if k == label[b, a] else smooth_alpha / (classes - 1)
            if use_ignore and label[b, a] == ignore_label:
                gradient[b, :, a] = 0
    positions = places if multi_output else 1
    divisor = {"null": positions, "batch": positions * batch, "valid": max(1, counted)}[normalization]
    return probability, gradient * grad_scale / divisor
