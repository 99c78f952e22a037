"""A folder of photos to JSON with the bundled detector, beside the network alone on the same backend.

    python benchmarks/end_to_end.py --data PHOTOS [--quick] [--json FILE]

The ratio is the share of the network's own throughput that is left when reading, decoding, resizing, collecting and
writing are added on the same cores. CPU milliseconds of an image say more than the clock on a busy machine: cores
divided by them is the throughput of a quiet one. A profile follows: the CPU time of each stage, one after the other.
"""

from __future__ import annotations

import itertools
import json
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from common import Measured, NotAvailableError, Settings, compare, float_precisions, main, spread_of
from singleshot.detector import Detector, load
from singleshot.images.preprocess import preprocess_image
from singleshot.images.read import read_image
from singleshot.prediction.frames import Frame
from singleshot.prediction.job import run_job
from singleshot.prediction.pipeline import Predictor
from singleshot.prediction.sinks import open_sinks
from singleshot.prediction.sources import find_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

GOAL = 0.85
PREPARED = 24
"""Photos that the network alone runs on, again and again."""
BACKENDS: tuple[tuple[str, str], ...] = (
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("torch", "fp32"),
)


class Clock:
    """Wall and CPU seconds of a block."""

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s, self.cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu


def prepared(predictor: Predictor, paths: list[Path]) -> list[NDArray[np.float32]]:
    """Some photos as the network sees them."""
    return [preprocess_image(read_image(path), predictor.preprocess)[None] for path in paths[:PREPARED]]


def network_only(predictor: Predictor, batches: list[NDArray[np.float32]], images: int) -> None:
    """As many batches at the same time as the pipeline has."""
    with ThreadPoolExecutor(predictor.parallel) as pool:
        list(pool.map(predictor.detect, itertools.islice(itertools.cycle(batches), images)))


def folder_to_json(predictor: Predictor, paths: list[Path], images: int) -> None:
    sources = list(itertools.islice(itertools.cycle(paths), images))
    with tempfile.TemporaryDirectory() as folder, open_sinks(["json"], Path(folder), paths, (), ()) as sinks:
        run_job(predictor.stream(sources, 1), sinks, predictor.times)


def measure_backend(
    detector: Detector, backend: str, precision: str, paths: list[Path], settings: Settings
) -> list[Measured]:
    predictor = detector.predictor(backend=backend, precision=precision, images=len(paths))
    count = settings.choose(300, 100, 4)
    alone = f"network alone, {predictor.backend.name}"
    whole = f"singleshot, {predictor.backend.name}"
    batches = prepared(predictor, paths)
    rates: dict[str, list[float]] = {whole: [], alone: []}
    cpu_ms: dict[str, list[float]] = {whole: [], alone: []}
    for turn in range(settings.choose(5, 2, 1) + 1):
        for name in rates:
            with Clock() as clock:
                if name == whole:
                    folder_to_json(predictor, paths, count)
                else:
                    network_only(predictor, batches, count)
            if turn:
                rates[name].append(count / clock.wall_s)
                cpu_ms[name].append(1000 * clock.cpu_s / count)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    notes = {name: f"{np.median(own):.2f} CPU ms an image" for name, own in cpu_ms.items()}
    notes[whole] += f"; peak memory of the process so far {memory:.0f} MB"
    pipeline = compare(
        "folder of photos to JSON",
        rates,
        goals={whole: GOAL},
        notes=notes,
        unit="img/s",
        scale=1,
        larger_is_better=True,
    )
    return pipeline + profile(predictor, paths, count)


def profile(predictor: Predictor, paths: list[Path], images: int) -> list[Measured]:
    """CPU milliseconds of an image by stage, on all threads; the stages do not overlap here."""
    cpu_ms: dict[str, list[float]] = {name: [] for name in ("decode", "resize and normalise", "network", "JSON")}

    def timed(stage: str, run: Callable[[], T]) -> T:
        with Clock() as clock:
            result = run()
        cpu_ms[stage].append(1000 * clock.cpu_s)
        return result

    for path in itertools.islice(itertools.cycle(paths), images):
        image = timed("decode", partial(read_image, path))
        batch = timed("resize and normalise", partial(preprocess_image, image, predictor.preprocess))[None]
        found = timed("network", partial(predictor.detect, batch))
        frame = Frame(image, str(path), is_file=True)
        timed("JSON", lambda: json.dumps(predictor.finish(found, 0, frame).detections.to_dict(vocabulary=False)))  # noqa: B023
    row = f"CPU time of an image, {predictor.backend.name}"
    means = {name: float(np.mean(own)) for name, own in cpu_ms.items()}
    return [
        Measured(row, name, mean, "CPU ms", spread_of(cpu_ms[name]), note=f"{mean / sum(means.values()):.0%}")
        for name, mean in means.items()
    ]


def measure_row(settings: Settings) -> list[Measured]:
    """Images per second."""
    if settings.data is None:
        raise NotAvailableError("photos are needed: --data FOLDER")
    paths = find_images(settings.data, recursive=True)
    detector = load("coco")
    computed = (*float_precisions(), "int8")
    pairs = [(backend, precision) for backend, precision in BACKENDS if find_spec(backend) and precision in computed]
    return [line for pair in pairs for line in measure_backend(detector, *pair, paths, settings)]


if __name__ == "__main__":
    main(__doc__, measure_row)
