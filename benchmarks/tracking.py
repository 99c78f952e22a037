"""Our ByteTrack next to the one of the package ``trackers``: the same ids, HOTA and IDF1, and the time of a frame.

    python benchmarks/tracking.py [--objects 10 50 200] [--frames 300] [--seeds 3] [--json FILE]

Needs ``trackers`` (and ``trackeval`` for the scores) beside the package, in an environment of its own. Sequences are
made here: objects that move, stop, speed up and hide each other, boxes with noise, weak and missing detections, false
alarms. Times are medians over frames, both trackers in turn on every frame.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.prediction.detections import Detections
from singleshot.prediction.tracking import Tracker

WIDTH, HEIGHT = 1920, 1080


class Frame(NamedTuple):
    """Detections of a frame, and the objects that are there.

    Attributes:
        boxes_xyxy, scores: what a detector reports, ``[N, 4]`` and ``[N]``.
        true_ids, true_boxes: the objects.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    true_ids: NDArray[np.int64]
    true_boxes: NDArray[np.float64]


def sequence(objects: int, frames: int, seed: int) -> list[Frame]:
    """A made-up video: walkers of several sizes on a 1080p picture, nearer ones in front of others."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform((0, 0), (WIDTH, HEIGHT), (objects, 2))
    speed = rng.normal(0, 3, (objects, 2))
    side = rng.uniform(30, 120, (objects, 1)) * np.array((0.45, 1.0))
    made = []
    for _ in range(frames):
        speed = 0.98 * speed + rng.normal(0, 0.3, speed.shape)
        outside = (centre < 0) | (centre > (WIDTH, HEIGHT))
        speed = np.where(outside, -np.sign(centre - np.array((WIDTH, HEIGHT)) / 2) * np.abs(speed), speed)
        centre = centre + speed
        boxes = np.concatenate((centre - side / 2, centre + side / 2), 1)
        hidden = hidden_share(boxes)
        score = np.clip(0.92 - 0.9 * hidden + rng.normal(0, 0.06, objects), 0.02, 0.99)
        seen = (score > 0.1) & (rng.random(objects) > 0.03)
        noisy = boxes[seen] + rng.normal(0, 1, (int(seen.sum()), 4)) * 0.02 * side[seen].repeat(2, 1)
        alarms = rng.poisson(0.02 * objects)
        corner = rng.uniform((0, 0), (WIDTH, HEIGHT), (alarms, 2))
        false = np.concatenate((corner, corner + rng.uniform(20, 100, (alarms, 2))), 1)
        order = rng.permutation(len(noisy) + alarms)
        made.append(
            Frame(
                np.concatenate((noisy, false))[order].astype(np.float32),
                np.concatenate((score[seen], rng.uniform(0.1, 0.75, alarms)))[order].astype(np.float32),
                np.arange(objects),
                boxes,
            )
        )
    return made


def hidden_share(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest part of each box that another one, which reaches further down the picture, covers."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    shared = (np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - low).clip(0).prod(-1)
    nearer = boxes[None, :, 3] > boxes[:, None, 3]
    return (shared * nearer).max(1) / (boxes[:, 2:] - boxes[:, :2]).prod(-1)


def as_ours(frame: Frame) -> Detections:
    """Our record of a frame."""
    ids = np.zeros(len(frame.scores), dtype=np.int64)
    return Detections(frame.boxes_xyxy, frame.scores, ids, ("object",), (HEIGHT, WIDTH))


def follow(frames: list[Frame]) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], list[float], list[float]]:
    """Ids of every detection by us and by them, and seconds of every frame; both in turn."""
    import supervision as sv
    from trackers import ByteTrackTracker

    ours, theirs = Tracker(), ByteTrackTracker()
    our_ids, their_ids, our_s, their_s = [], [], [], []
    for frame in frames:
        found = as_ours(frame)
        begin = time.perf_counter()
        tracked = ours.update(found)
        our_s.append(time.perf_counter() - begin)
        rows = np.arange(len(frame.scores))
        given = sv.Detections(
            frame.boxes_xyxy, confidence=frame.scores, class_id=np.zeros(len(rows), dtype=int), data={"row": rows}
        )
        begin = time.perf_counter()
        answer = theirs.update(given)
        their_s.append(time.perf_counter() - begin)
        ids = np.full(len(rows), -1)
        if len(answer):
            ids[answer.data["row"]] = np.where(answer.tracker_id < 0, -1, answer.tracker_id + 1)
        assert tracked.track_ids is not None
        our_ids.append(tracked.track_ids)
        their_ids.append(ids)
    return our_ids, their_ids, our_s, their_s


def scores(frames: list[Frame], ids: list[NDArray[np.int64]]) -> dict[str, float]:
    """HOTA and IDF1 by ``trackeval``, in percent."""
    from trackeval.metrics import HOTA, Identity

    known = {own: number for number, own in enumerate(sorted({int(i) for row in ids for i in row if i > 0}))}
    data: dict[str, Any] = {"gt_ids": [], "tracker_ids": [], "similarity_scores": []}
    for frame, own in zip(frames, ids, strict=True):
        kept = own > 0
        data["gt_ids"].append(frame.true_ids)
        data["tracker_ids"].append(np.array([known[int(i)] for i in own[kept]], dtype=int))
        data["similarity_scores"].append(overlap(frame.true_boxes, frame.boxes_xyxy[kept].astype(np.float64)))
    data["num_timesteps"] = len(frames)
    data["num_gt_ids"], data["num_tracker_ids"] = len(frames[0].true_ids), len(known)
    data["num_gt_dets"] = sum(map(len, data["gt_ids"]))
    data["num_tracker_dets"] = sum(map(len, data["tracker_ids"]))
    hota = HOTA().eval_sequence(data)
    identity = Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    return {"HOTA": 100 * float(np.mean(hota["HOTA"])), "IDF1": 100 * float(identity["IDF1"])}


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU, ``[N, M]``."""
    shared = (np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])).clip(0).prod(-1)
    areas = ((box[:, 2:] - box[:, :2]).prod(-1) for box in (a, b))
    union = np.add.outer(*areas) - shared
    return np.asarray(shared / union)


def main() -> None:
    """Print a line for each number of objects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines = []
    for objects in options.objects:
        equal = boxes = 0
        our_s: list[float] = []
        their_s: list[float] = []
        gaps: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            frames = sequence(objects, options.frames, seed)
            ours, theirs, ours_s, theirs_s = follow(frames)
            our_s += ours_s
            their_s += theirs_s
            equal += sum(int((a == b).sum()) for a, b in zip(ours, theirs, strict=True))
            boxes += sum(map(len, ours))
            try:
                mine, yours = scores(frames, ours), scores(frames, theirs)
            except ImportError:
                continue
            for name in mine:
                gaps.setdefault(name, []).append(mine[name] - yours[name])
                gaps.setdefault(f"our {name}", []).append(mine[name])
        line = {
            "objects": objects,
            "equal ids": equal / boxes,
            "boxes": boxes,
            "our ms": 1e3 * median(our_s),
            "their ms": 1e3 * median(their_s),
            "times as fast": median(their / our for our, their in zip(our_s, their_s, strict=True)),
        } | {name: float(np.mean(values)) for name, values in gaps.items()}
        lines.append(line)
        print("; ".join(f"{key} {value:.5g}" for key, value in line.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
