"""Raw heads of an imported TensorFlow graph beside OpenCV 5's own reader, on real photos.

    python benchmarks/tensorflow_opencv.py GRAPH.pb GRAPH.pbtxt PHOTO_FOLDER

GRAPH.pbtxt is OpenCV's description of the graph. Both read the same preprocessed pixels. Prints the largest difference
of box codes, logits and scores. Exit code 1 if a code or a logit is more than 1e-3 of the largest off.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import singleshot

TOLERANCE = 1e-3
CODES, LOGITS = "BoxEncodingPredictor/concat", "ClassPredictor/concat"
OPENCV_ORDER = [1, 0, 3, 2]
"""OpenCV's reader turns codes of (y, x, h, w) into (x, y, w, h)."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("graph", "description", "photos"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--count", type=int, default=30)
    options = parser.parse_args()
    detector = singleshot.import_weights(options.graph)
    net = cv2.dnn.readNetFromTensorflow(str(options.graph), str(options.description), engine=cv2.dnn.ENGINE_CLASSIC)
    photos = sorted(options.photos.glob("*.jpg"))[: options.count]
    largest, scales, score_error = np.zeros(2), np.zeros(2), 0.0
    for path in photos:
        pixels = detector.preprocess(path)[None]
        with torch.no_grad():
            output = detector.network(pixels)
        ours = output.box_codes[0].numpy()[:, OPENCV_ORDER], output.class_logits[0].numpy()
        net.setInput(pixels.numpy())
        theirs = [value.reshape(part.shape) for value, part in zip(net.forward((CODES, LOGITS)), ours, strict=True)]
        largest = np.maximum(largest, [np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)])
        scales = np.maximum(scales, [np.abs(value).max() for value in theirs])
        scores, expected = (1 / (1 + np.exp(-value[:, 1:])) for value in (ours[1], theirs[1]))
        score_error = max(score_error, float(np.abs(scores - expected).max()))
    print(f"{len(photos)} photos, OpenCV {cv2.__version__}: largest difference")
    for name, error, scale in zip(("box codes", "logits"), largest, scales, strict=True):
        print(f"{name:10} {error:.2g} of {scale:.3g} ({error / scale:.2g})")
    print(f"{'scores':10} {score_error:.2g}")
    return int((largest / scales).max() > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
