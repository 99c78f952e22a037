"""How CPU time and memory of all metrics grow with the number of images.

Objects are real where label files are given (lines ``file count (xmin ymin xmax ymax class)*``), else made up;
detections are jittered objects plus noise. Sizes above the number of labelled images repeat them.

    python benchmarks/metrics_scale.py [voc07_test.txt] --images 4952 25000 100000 --detections 60 --peer
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path
from time import process_time

import numpy as np

from common import Measured, Settings
from singleshot.evaluation.metrics import DetectionTable, GroundTruth, evaluate_detections


def read_labels(path: Path) -> GroundTruth:
    lines = [line.split() for line in path.read_text().splitlines()]
    counts = [int(line[1]) for line in lines]
    rows = np.array([value for line in lines for value in line[2:]], dtype=np.float64).reshape(-1, 5)
    boxes = rows[:, :4] - np.array([1, 1, 0, 0])
    return GroundTruth(np.repeat(np.arange(len(lines)), counts), rows[:, 4].astype(np.int64), boxes, len(lines))


def invent_labels(images: int, classes: int, rng: np.random.Generator) -> GroundTruth:
    index = np.repeat(np.arange(images), rng.poisson(2.4, images))
    corner = rng.uniform(0, 300, (len(index), 2))
    boxes = np.concatenate([corner, corner + np.exp(rng.uniform(2.5, 5.5, (len(index), 2)))], axis=1)
    return GroundTruth(index, rng.integers(0, classes, len(index)), boxes, images)


def repeat_images(truth: GroundTruth, images: int) -> GroundTruth:
    copies = -(-images // truth.image_count)
    index = (np.arange(copies)[:, None] * truth.image_count + truth.image_index).ravel()
    keep = index < images
    boxes, classes = np.tile(truth.boxes_xyxy, (copies, 1)), np.tile(truth.class_ids, copies)
    return GroundTruth(index[keep], classes[keep], boxes[keep], images)


def invent_detections(truth: GroundTruth, per_image: int, classes: int, rng: np.random.Generator) -> DetectionTable:
    copies = rng.integers(0, 6, len(truth))
    source = np.repeat(np.arange(len(truth)), copies)
    sides = np.tile(truth.boxes_xyxy[source, 2:] - truth.boxes_xyxy[source, :2], 2)
    near = truth.boxes_xyxy[source] + rng.normal(0, 0.1, (len(source), 4)) * sides
    noise = max(per_image * truth.image_count - len(source), 0)
    corner = rng.uniform(0, 400, (noise, 2))
    far = np.concatenate([corner, corner + rng.uniform(5, 200, (noise, 2))], axis=1)
    table = DetectionTable(
        np.concatenate([truth.image_index[source], rng.integers(0, truth.image_count, noise)]),
        np.concatenate([truth.class_ids[source], rng.integers(0, classes, noise)]),
        np.concatenate([near, far]).astype(np.float32),
        np.concatenate([rng.beta(4, 2, len(source)), rng.beta(1, 8, noise)]).astype(np.float32),
    )
    return table.take(np.argsort(table.image_index, kind="stable"))


def peer_coco(truth: GroundTruth, table: DetectionTable, classes: int) -> tuple[float, dict[str, float]]:
    """CPU seconds and AP of faster-coco-eval, from its dictionaries in memory to its numbers."""
    from faster_coco_eval import COCO, COCOeval_faster

    def records(rows: GroundTruth | DetectionTable) -> list[dict[str, object]]:
        sides = np.concatenate([rows.boxes_xyxy[:, :2], rows.boxes_xyxy[:, 2:] - rows.boxes_xyxy[:, :2]], axis=1)
        columns = zip(rows.image_index.tolist(), rows.class_ids.tolist(), sides.tolist(), strict=True)
        return [{"image_id": image, "category_id": label, "bbox": box} for image, label, box in columns]

    areas = truth.areas.tolist()
    objects = [
        {**record, "id": number + 1, "area": areas[number], "iscrowd": 0}
        for number, record in enumerate(records(truth))
    ]
    results = [{**record, "score": score} for record, score in zip(records(table), table.scores.tolist(), strict=True)]
    start = process_time()
    labels = COCO()
    labels.dataset = {
        "images": [{"id": index} for index in range(truth.image_count)],
        "categories": [{"id": index} for index in range(classes)],
        "annotations": objects,
    }
    labels.createIndex()
    evaluator = COCOeval_faster(labels, labels.loadRes(results), "bbox")
    evaluator.run()
    return process_time() - start, {"AP": float(evaluator.stats[0]), "AP50": float(evaluator.stats[1])}


def measure(labels: Path | None, images: int, per_image: int, classes: int, peer: bool) -> dict[str, float]:
    rng = np.random.default_rng(0)
    truth = repeat_images(read_labels(labels), images) if labels else invent_labels(images, classes, rng)
    table = invent_detections(truth, per_image, classes, rng)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = process_time()
    voc_only = evaluate_detections(truth, table, classes, coco=False)
    voc_s = process_time() - start
    start = process_time()
    result = evaluate_detections(truth, table, classes)
    row = {
        "images": images,
        "objects": len(truth),
        "detections": len(table),
        "voc_s": voc_s,
        "all_s": process_time() - start,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before,
        "voc_area": voc_only.voc_area,
        "coco_AP": result.coco.summary["AP"] if result.coco else float("nan"),
    }
    if peer:
        row["peer_s"], numbers = peer_coco(truth, table, classes)
        row["peer_difference"] = abs(numbers["AP"] - row["coco_AP"])
    return row


def measure_row(settings: Settings) -> list[Measured]:
    """CPU seconds of all metrics at VOC07's size and at growing ones, for ``run.py``; faster-coco-eval is the peer."""
    path = settings.reference / "data/voc_labels/voc07_test.txt" if settings.reference else None
    labels = path if path and path.is_file() else None
    lines = []
    for images in settings.choose((4952, 25000, 100000), (4952,), (50,)):
        number = measure(labels, images, 60, 20, peer=True)
        row = f"all metrics, {images:,} images, {int(number['detections']):,} detections"
        ours, peer = number["all_s"], number["peer_s"]
        note = f"VOC metrics alone {number['voc_s']:.2g} s; COCO AP differs from the peer's by"
        note += f" {number['peer_difference']:.1e}"
        lines.append(Measured(row, "singleshot", ours, "CPU s", 0.0, peer / ours, note=note, values=(ours,)))
        lines.append(Measured(row, "faster-coco-eval, COCO only", peer, "CPU s", 0.0, values=(peer,)))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, nargs="?", help="label file; invented labels without it")
    parser.add_argument("--images", type=int, nargs="+", default=[4952, 25000, 100000])
    parser.add_argument("--detections", type=int, default=60, help="detections of an image")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--peer", action="store_true", help="also time faster-coco-eval")
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    arguments = parser.parse_args()
    rows = []
    for images in arguments.images:
        row = measure(arguments.labels, images, arguments.detections, arguments.classes, arguments.peer)
        print("  ".join(f"{name} {value:,.4g}" for name, value in row.items()), flush=True)
        rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
