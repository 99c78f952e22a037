"""A folder of photos to JSON with the bundled detector, against the network alone on the same backend.

    python benchmarks/end_to_end.py PHOTOS

Wall-clock numbers need a quiet machine. CPU seconds per image do not, and tell what is possible: cores / CPU seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from singleshot.backends.base import cores
from singleshot.benchmark import machine
from singleshot.detector import load
from singleshot.predict.job import run_job
from singleshot.predict.runner import Predictor
from singleshot.predict.sinks import open_sinks
from singleshot.predict.sources import find_images


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(call: object, images: int) -> dict[str, float]:
    start, cpu = perf_counter(), cpu_seconds()
    call()  # type: ignore[operator]
    wall, spent = perf_counter() - start, cpu_seconds() - cpu
    return {"images_per_s": images / wall, "cpu_ms_per_image": 1000 * spent / images}


def network_only(predictor: Predictor, images: int) -> None:
    height, width = predictor.preprocess.size_hw
    batch = np.zeros((1, 3, height, width), dtype=np.float32)
    with ThreadPoolExecutor(predictor.parallel) as pool:
        list(pool.map(lambda _: predictor.detect(batch), range(images)))


def end_to_end(predictor: Predictor, paths: list[Path], count: int) -> None:
    sources = list(itertools.islice(itertools.cycle(paths), count))
    with tempfile.TemporaryDirectory() as folder, open_sinks(["json"], Path(folder), paths, (), ()) as sinks:
        run_job(predictor.stream(sources, 1), sinks, predictor.times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", help="files, folders, globs")
    parser.add_argument("--images", type=int, default=300, help="photos to process; fewer files are repeated")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--weights", default="coco")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    paths = find_images(options.photos)
    predictor = load(options.weights).predictor(0.3, backend=options.backend, precision=options.precision, images=10**6)
    end_to_end(predictor, paths, 20)
    memory = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
    rows = {
        "network alone": timed(lambda: network_only(predictor, options.images), options.images),
        "folder to JSON": timed(lambda: end_to_end(predictor, paths, options.images), options.images),
    }
    memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(
        f"{predictor.backend.name}, {cores()} cores, {options.images} images; torch imported: {'torch' in sys.modules}"
    )
    for name, row in rows.items():
        print(f"{name:<16} {row['images_per_s']:8.1f} images/s   {row['cpu_ms_per_image']:6.2f} CPU ms per image")
    share = rows["folder to JSON"]["images_per_s"] / rows["network alone"]["images_per_s"]
    print(
        f"share of the network alone: {100 * share:.0f} %; peak memory {memory[0]:.0f} MB early, {memory[1]:.0f} late"
    )
    per_image = {stage: 1000 * seconds / options.images for stage, seconds in predictor.times.seconds.items()}
    print("ms per image:", ", ".join(f"{stage} {value:.2f}" for stage, value in per_image.items()))
    if options.json:
        document = {"machine": machine(), "backend": predictor.backend.name, "rows": rows, "share": share}
        options.json.write_text(json.dumps(document | {"peak_memory_mb": memory}, indent=2) + "\n")


if __name__ == "__main__":
    main()
