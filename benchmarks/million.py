"""Labels of a million images: time and peak memory of opening them, of `data check --fast`, and of a first batch.

    python benchmarks/million.py make FOLDER [--images 1000000] [--boxes 5]
    python benchmarks/million.py open|check|batch FOLDER

`make` writes a COCO file and the images that it names: links to a few small photos, so that they take no room.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import cv2
import numpy as np

SIDE = 64
PER_FOLDER, PER_FILE = 10_000, 50_000
CLASSES = 80


def peak_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make(folder: Path, images: int, boxes: int) -> None:
    """Write ``FOLDER/annotations/instances_train.json`` and ``FOLDER/images/00/00000000.jpg`` ..."""
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    names = [f"{number // PER_FOLDER:03d}/{number:08d}.jpg" for number in range(images)]
    for start in range(0, images, PER_FILE):
        pixels = cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (SIDE, SIDE))
        data = cv2.imencode(".jpg", pixels)[1].tobytes()
        first = folder / "images" / names[start]
        for number in range(start, min(start + PER_FILE, images)):
            target = folder / "images" / names[number]
            if number % PER_FOLDER == 0:
                target.parent.mkdir(parents=True, exist_ok=True)
            if number == start:
                target.write_bytes(data)
            else:
                os.link(first, target)
    with (folder / "annotations" / "instances_train.json").open("w") as file:
        rows = (
            f'{{"id": {number + 1}, "file_name": "{name}", "height": {SIDE}, "width": {SIDE}}}'
            for number, name in enumerate(names)
        )
        file.write('{"images": [' + ", ".join(rows) + '], "annotations": [')
        for start in range(0, images, PER_FILE):
            count = min(PER_FILE, images - start)
            low = rng.integers(0, 4000, (count * boxes, 2)) / 100
            sides = rng.integers(200, 2300, (count * boxes, 2)) / 100
            classes = rng.integers(1, CLASSES + 1, count * boxes).tolist()
            columns = zip(low.tolist(), sides.tolist(), classes, strict=True)
            lines = (
                f'{{"id": {row + 1}, "image_id": {row // boxes + 1}, "bbox": [{x}, {y}, {w}, {h}], "iscrowd": 0, '
                f'"category_id": {label}, "area": {w * h:.2f}}}'
                for row, ((x, y), (w, h), label) in enumerate(columns, start * boxes)
            )
            file.write((", " if start else "") + ", ".join(lines))
        named = [{"id": number + 1, "name": f"class {number}"} for number in range(CLASSES)]
        file.write('], "categories": ' + json.dumps(named) + "}")


def measure(what: str, folder: Path) -> None:
    """Print seconds and the peak of memory."""
    from singleshot import data

    start = time.process_time()
    if what == "check":
        from singleshot.data.check import check

        report = check(folder, deep=False)
        print(f"{report.images['images']:,} images, {report.images['objects']:,} objects, {report.errors} errors")
    else:
        opened = data.open(folder)
        print(f"{len(opened):,} images after {time.process_time() - start:.1f} s, peak {peak_mib():,.0f} MiB")
    if what == "batch":
        from singleshot.augment.pipeline import Augmenter
        from singleshot.training.loader import LoaderConfig, TrainLoader

        begun = time.process_time()
        loader = TrainLoader(opened.samples, Augmenter("ssd", (300, 300)), LoaderConfig(workers=0))
        next(loader.stream())
        print(f"first batch of 32 after {time.process_time() - begun:.2f} s more")
    print(f"{what}: {time.process_time() - start:.1f} s, peak {peak_mib():,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["make", "open", "check", "batch"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--boxes", type=int, default=5)
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, options.images, options.boxes)
    else:
        measure(options.what, options.folder)


if __name__ == "__main__":
    sys.exit(main())
