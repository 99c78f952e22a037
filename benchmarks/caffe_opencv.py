"""An imported Caffe detector beside OpenCV 4's own Caffe reader, on real photos.

OpenCV 5 has no Caffe reader, so OpenCV 4 lives in an environment of its own:

    python -m venv benchmarks/.venv-opencv4
    benchmarks/.venv-opencv4/bin/pip install "opencv-python-headless==4.14.*" numpy
    python benchmarks/caffe_opencv.py MODEL_FOLDER PHOTO_FOLDER

MODEL_FOLDER holds a deploy .prototxt and its .caffemodel. Prints how many detections both have, and how far apart
their boxes (pixels of the photo) and scores are. Exit code 1 if a box is more than 1 pixel or a score more than 1e-3
off, or a detection is missing on one side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

THRESHOLD = 0.01
BOX_TOLERANCE_PX = 1.0
SCORE_TOLERANCE = 1e-3
# Detections so close to the score threshold may be on either side of it.
EDGE = 1e-4


def opencv_side(job: dict[str, Any]) -> list[list[list[float]]]:
    """Rows of label, score, corners in pixels for each photo, by cv2.dnn. Runs under OpenCV 4."""
    import cv2

    net = cv2.dnn.readNetFromCaffe(job["prototxt"], job["caffemodel"])
    found = []
    for path in job["photos"]:
        image = cv2.imread(path)
        height, width = image.shape[:2]
        resized = cv2.resize(image, tuple(job["size_wh"]), interpolation=cv2.INTER_LINEAR)
        net.setInput(cv2.dnn.blobFromImage(resized, job["scale"], tuple(job["size_wh"]), job["mean"], swapRB=False))
        rows = net.forward()[0, 0]
        rows = rows[rows[:, 2] > THRESHOLD]
        found.append((rows[:, 1:] * [1, 1, width, height, width, height]).tolist())
    return found


def singleshot_side(detector: Any, photos: list[Path]) -> list[list[list[float]]]:
    """The same rows by the imported detector, boxes not clipped."""
    import torch

    from singleshot.images.read import read_image
    from singleshot.multibox.decode import postprocess

    spec, anchors, found = detector.spec, detector.anchors(), []
    for path in photos:
        height, width = read_image(path).shape[:2]
        with torch.no_grad():
            output = detector.network(detector.preprocess(path)[None])
        size_hw = spec.preprocess.size_hw
        result = postprocess(output, anchors, spec.postprocess, spec.coder, size_hw, len(spec.class_names))
        count = int(result.counts[0])
        scale = np.array([width / size_hw[1], height / size_hw[0]] * 2)
        boxes = result.boxes_xyxy[0, :count].numpy() * scale
        labels, scores = result.class_ids[0, :count].numpy() + 1, result.scores[0, :count].numpy()
        found.append(np.column_stack([labels, scores, boxes]).tolist())
    return found


def compare(ours: list[list[float]], theirs: list[list[float]]) -> tuple[int, int, float, float]:
    """Detections in common, alone on one side, and the largest distance of boxes and of scores."""
    left = [np.array(row) for row in ours]
    common, alone, box_error, score_error = 0, 0, 0.0, 0.0
    for row in map(np.array, theirs):
        near = [other for other in left if other[0] == row[0] and np.abs(other[2:] - row[2:]).max() <= BOX_TOLERANCE_PX]
        if not near:
            alone += int(row[1] > THRESHOLD + EDGE)
            continue
        best = min(near, key=lambda other: abs(other[1] - row[1]))
        left = [other for other in left if other is not best]
        common += 1
        box_error = max(box_error, float(np.abs(best[2:] - row[2:]).max()))
        score_error = max(score_error, float(abs(best[1] - row[1])))
    return common, alone + sum(row[1] > THRESHOLD + EDGE for row in left), box_error, score_error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--python", default=str(Path(__file__).parent / ".venv-opencv4/bin/python"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        json.dump(opencv_side(json.load(sys.stdin)), sys.stdout)
        return 0

    import singleshot
    from singleshot.interop.caffe.read import find_files

    detector = singleshot.import_weights(options.model, "caffe")
    photos = sorted(options.photos.glob("*.jpg"))[: options.count]
    prototxt, caffemodel = find_files(options.model)
    preprocess = detector.spec.preprocess
    job = {
        "prototxt": str(prototxt),
        "caffemodel": str(caffemodel),
        "photos": [str(path) for path in photos],
        "size_wh": preprocess.size_hw[::-1],
        "scale": preprocess.scale,
        "mean": [value / preprocess.scale for value in preprocess.mean],
    }
    worker = [options.python, __file__, "--worker"]
    done = subprocess.run(worker, input=json.dumps(job), capture_output=True, text=True, check=True)
    pairs = zip(singleshot_side(detector, photos), json.loads(done.stdout), strict=True)
    rows = [compare(ours, theirs) for ours, theirs in pairs]
    common, alone = sum(row[0] for row in rows), sum(row[1] for row in rows)
    box_error, score_error = max(row[2] for row in rows), max(row[3] for row in rows)
    print(f"{len(photos)} photos, {common} detections on both sides, {alone} on one side only")
    print(f"largest difference: boxes {box_error:.2g} px, scores {score_error:.2g}")
    return int(alone > 0 or box_error > BOX_TOLERANCE_PX or score_error > SCORE_TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
