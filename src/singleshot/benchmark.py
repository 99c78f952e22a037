"""How fast a detector is on this machine, by backend, precision and batch, and what the machine could do at best."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from singleshot.backends.base import Backend, cores
from singleshot.backends.select import BackendName, Precision
from singleshot.detector import Detector
from singleshot.errors import SingleshotError

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMBINATIONS: tuple[tuple[BackendName, Precision], ...] = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    Attributes:
        backend: what ran, as the backend names itself.
        batch: images at once.
        latency_ms: median of one batch, on all cores, postprocessing included.
        spread_ms: the middle half of the measurements lies within this.
        images_per_s: with as many batches at the same time as the backend wants.
        gflops_per_s: multiply-adds of the convolutions count as two.
        skipped: why there is no number.
    """

    backend: str
    batch: int
    latency_ms: float = 0.0
    spread_ms: float = 0.0
    images_per_s: float = 0.0
    gflops_per_s: float = 0.0
    skipped: str = ""


def machine() -> dict[str, str | int]:
    """The hardware and the versions that matter for speed."""
    packages = {}
    for name in ("torch", "openvino", "onnxruntime", "numpy", "opencv-python-headless"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"cpu": _cpu_name(), "cores": cores(), "python": platform.python_version(), **packages}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def benchmark(
    detector: Detector,
    batches: Sequence[int] = (1, 8),
    seconds: float = 3.0,
    combinations: Sequence[tuple[BackendName, Precision]] = COMBINATIONS,
) -> Iterator[Row]:
    """Measure one combination after the other.

    Args:
        detector: what to measure.
        batches: images at once.
        seconds: for each measurement.
        combinations: backends and precisions.
    """
    flops = network_flops(detector)
    for backend, precision in combinations:
        for batch in batches:
            try:
                yield measure(detector, backend, precision, batch, seconds, flops)
            except SingleshotError as error:
                yield Row(f"{backend} {precision}", batch, skipped=str(error))
                break


def measure(
    detector: Detector, backend: BackendName, precision: Precision, batch: int, seconds: float, flops: float
) -> Row:
    """One measurement: latency on all cores, then throughput."""
    images = _noise(batch, detector.spec.preprocess.size_hw)
    one = detector.predictor(backend=backend, precision=precision, images=1).backend
    times = time_calls(lambda: one.predict(images), seconds / 2)
    many = detector.predictor(backend=backend, precision=precision).backend
    rate = throughput(many, images, seconds / 2)
    low, middle, high = np.percentile(times, (25, 50, 75))
    return Row(one.name, batch, 1000 * middle, 1000 * (high - low), rate, rate * flops / 1e9)


def _noise(batch: int, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 1, (batch, 3, *size_hw)).astype(np.float32)


def time_calls(call: Callable[[], object], seconds: float, least: int = 3) -> list[float]:
    """Seconds of each call, after one that warms up."""
    call()
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return times


def throughput(backend: Backend, images: NDArray[np.float32], seconds: float) -> float:
    """Images per second with as many batches at the same time as the backend wants."""
    parallel = getattr(backend, "parallel", 1)
    with ThreadPoolExecutor(parallel) as pool:

        def round_of(count: int) -> float:
            start = perf_counter()
            list(pool.map(lambda _: backend.predict(images), range(count)))
            return perf_counter() - start

        round_of(parallel)
        once = round_of(2 * parallel)
        count = max(int(2 * parallel * seconds / once), 2 * parallel)
        return count * len(images) / round_of(count)


def network_flops(detector: Detector) -> float:
    """Floating-point operations of the network for one image."""
    from singleshot.models.build import build_network
    from singleshot.models.summary import count_flops

    return float(count_flops(build_network(detector.spec.network), detector.spec.preprocess.size_hw))


def peak_gflops(precision: Precision = "fp32", size: int = 2048, seconds: float = 1.0) -> float:
    """What the machine reaches in a large matrix product by torch, on all cores: 10^9 operations per second."""
    import torch

    a = torch.randn(size, size)
    if precision == "bf16":
        a = a.bfloat16()
    times = time_calls(lambda: a @ a, seconds)
    return 2 * size**3 / median(times) / 1e9
