"""Average precision of a detector on photos with COCO labels, by pycocotools.

    python benchmarks/coco343.py FOLDER [--weights coco | FILE | TFJS_FOLDER]

FOLDER holds ``instances.json`` and ``images/``. Scores above .01, best 100 of each image, as TensorFlow's evaluation.
A foreign folder or file is imported first (float32).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from singleshot.detector import Detector, import_weights, load
from singleshot.weights.bundled import bundled_names

METRICS = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")
SCORE_THRESHOLD = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="coco")
    arguments = parser.parse_args()
    is_ours = arguments.weights in bundled_names() or arguments.weights.endswith(".safetensors")
    detector = load(arguments.weights) if is_ours else import_weights(arguments.weights)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(arguments.folder / "instances.json"))
    start = time.perf_counter()
    rows = detect(detector, truth, arguments.folder / "images")
    print(f"{len(truth.getImgIds())} images in {time.perf_counter() - start:.0f} s, {len(rows)} detections")
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    for name, value in zip(METRICS, evaluation.stats, strict=False):
        print(f"{name:10} {value:.4f}")


def detect(detector: Detector, truth: COCO, images: Path) -> list[dict[str, Any]]:
    """Rows of COCO's result format."""
    rows = []
    for image in truth.loadImgs(truth.getImgIds()):
        found = detector.predict(images / image["file_name"], score=SCORE_THRESHOLD)
        for (x0, y0, x1, y1), score, class_id in zip(found.boxes_xyxy, found.scores, found.class_ids, strict=True):
            box = [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]
            category = detector.spec.class_ids[class_id]
            rows.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": float(score)})
    return rows


if __name__ == "__main__":
    main()
