"""Every detector that people choose, exported and compared with itself: counts, IoU and scores, batches, two sizes.

    python benchmarks/export_family.py --data ../shared/data/coco_train343 [--count 4] [--formats onnx] [NAME ...]

Networks have the random numbers that a training starts with (the bundled detector its own), heads scaled until scores
differ. Prints a row of docs/benchmarks.md for each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from singleshot.detector import Detector, load
from singleshot.errors import SingleshotError
from singleshot.images.preprocess import preprocess_image
from singleshot.images.read import read_image
from singleshot.models.build import build_network
from singleshot.models.catalogue import MODELS, model_spec
from singleshot.prediction.sources import find_images

SPREAD = 1.5
"""Standard deviation of the logits: scores between nothing and sure."""

CLASSES = tuple(f"class {number}" for number in range(20))


def random_detector(name: str, pictures: list[np.ndarray]) -> Detector:
    """Random numbers; the heads are scaled until scores differ."""
    torch.manual_seed(0)
    spec = model_spec(name, CLASSES)
    network = build_network(spec.network)
    batch = torch.from_numpy(np.stack([preprocess_image(picture, spec.preprocess) for picture in pictures[:2]]))
    with torch.no_grad():
        network.eval()
        for _ in range(100):  # equal scores of 1 would make the order of boxes a matter of chance
            spread = float(network(batch).class_logits.std())
            if SPREAD / 1.3 < spread < SPREAD * 1.3:
                break
            for parameter in network.head.parameters():
                parameter.mul_(min(max((SPREAD / max(spread, 1e-30)) ** 0.25, 0.5), 2.0))
    return Detector(spec, network.state_dict())


def row(name: str, detector: Detector, images: list[Path], formats: list[str], levels: list[str], out: Path) -> str:
    cells = []
    for kind in formats:
        for level in levels:
            start = time.perf_counter()
            try:
                done = detector.export(
                    out / f"file{'.xml' if kind == 'openvino' else '.onnx'}", format=kind, level=level, images=images,
                    dynamic=level == "end2end", precision="fp32", overwrite=True, note=str,
                )  # fmt: skip
                seen = done.verification
                cells.append(
                    f"{seen.boxes:,} / {seen.file_boxes:,}, {1 - seen.least_iou:.0e}, {seen.score_difference:.0e}"
                    + (f" ({seen.at_threshold})" if seen.at_threshold else "")
                )
            except SingleshotError as error:
                cells.append(str(error).split(". ")[0])
            print(f"  {name} {kind} {level}: {cells[-1]} [{time.perf_counter() - start:.0f} s]", flush=True)
    return f"| `{name}` | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data", type=Path, required=True, help="folder of photos")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--formats", default="onnx,openvino")
    parser.add_argument("--levels", default="raw,decoded,end2end")
    options = parser.parse_args()
    found = find_images(options.data, recursive=True)
    images = [found[place] for place in np.linspace(0, len(found) - 1, min(options.count, len(found))).astype(int)]
    pictures = [read_image(path) for path in images]
    formats, levels = options.formats.split(","), options.levels.split(",")
    chosen = options.names or ["coco", *(name for name in MODELS.names() if not name.startswith("mxnet_"))]
    print("| detector | " + " | ".join(f"{kind}, {level}" for kind in formats for level in levels) + " |")
    rows = []
    for name in chosen:
        detector = load(name) if name == "coco" else random_detector(name, pictures)
        with tempfile.TemporaryDirectory() as out:
            rows.append(row(name, detector, images, formats, levels, Path(out)))
    print("\n".join(rows))


if __name__ == "__main__":
    main()
