"""How fast a detector is on this machine, by backend, precision and batch, and what the machine could do at best."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import has_torch, require_torch
from singleshot.core.sizes import parse_batch_size
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, SingleshotError
from singleshot.export.readers import ExportedFile
from singleshot.kernels.library import processor_flags
from singleshot.models.catalogue import model_names, model_spec
from singleshot.prediction.pipeline import Predictor
from singleshot.runtime.base import Backend, cores
from singleshot.runtime.choose import check_wish
from singleshot.runtime.device import has_gpu
from singleshot.runtime.registry import AUTO, Wish

COMBINATIONS: tuple[tuple[str, str], ...] = (
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
        batch_size: images at once.
        latency_ms: median of one batch, on all cores, postprocessing included.
        spread_ms: the middle half of the measurements lies within this.
        images_per_s: with as many batches at the same time as the backend wants.
        gflops_per_s: multiply-adds of the convolutions count as two; 0 where they could not be counted.
        device: where it was computed.
        skipped: why there is no number.
    """

    backend: str
    batch_size: int
    latency_ms: float = 0.0
    spread_ms: float = 0.0
    images_per_s: float = 0.0
    gflops_per_s: float = 0.0
    device: str = "cpu"
    skipped: str = ""

    @property
    def peak(self) -> str:
        """Name of the peak that ``gflops_per_s`` is to be compared with: ``fp32``, ``bf16 cuda``."""
        precision = "bf16" if "bf16" in self.backend else "fp32"
        return precision if self.device == "cpu" else f"{precision} {self.device}"


def machine() -> dict[str, str | int]:
    """The hardware and the versions that matter for speed."""
    packages = {}
    for name in ("torch", "openvino", "onnxruntime", "numpy", "opencv-python-headless"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"cpu": _cpu_name(), **_gpu_name(), "cores": cores(), "python": platform.python_version(), **packages}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu_name() -> dict[str, str]:
    if not has_gpu():
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name()}


def benchmark(
    model: Detector | str | os.PathLike[str] = "coco",
    *,
    batch_size: int | Sequence[int] = (1, 8),
    backend: str = AUTO,
    precision: str = AUTO,
    device: str = AUTO,
    compile: bool = False,
    seconds: float = 3.0,
) -> Iterator[Row]:
    """Measure latency and throughput of one combination of backend, precision and batch after the other.

        for row in singleshot.benchmark("coco", batch_size=1):
            print(row.backend, row.latency_ms)

    Args:
        model: a detector, a weights file, a bundled name, or an architecture, which gets random weights.
        batch_size: images at once; several are measured one by one.
        backend, precision: only this one; ``auto`` takes all.
        device: where torch computes; the other backends have the CPU only, and are left out where it is not that.
        compile: whether torch compiles the network.
        seconds: for each measurement.

    Returns:
        A row for each measurement, as soon as it is made.

    Raises:
        ConfigError: a setting makes no sense.
        WeightsError: the model cannot be read.
    """
    check_wish(Wish(backend, precision, device=device, compile=compile))
    sizes = [parse_batch_size(size) for size in (batch_size if isinstance(batch_size, Sequence) else [batch_size])]
    if not 0 < seconds < math.inf:
        raise ConfigError(f"`seconds` must be a number of seconds, not {seconds}")
    detector = model if isinstance(model, Detector) else find_model(model)
    offered = COMBINATIONS if detector.exported is None else _of_file(detector.exported)
    wanted = [(name, own) for name, own in offered if backend in (AUTO, name) and precision in (AUTO, own)]
    return measure_all(detector, sizes, wanted or [(backend, precision)], device, compile, seconds)


def _of_file(file: ExportedFile) -> tuple[tuple[str, str], ...]:
    """Those that can run an exported file."""
    if file.info.level != "raw" or not file.backends:
        return ((AUTO, AUTO),)
    return tuple((name, own) for name, own in COMBINATIONS if name in file.backends)


def find_model(model: str | os.PathLike[str]) -> Detector:
    """A detector by weights, or of random weights by the name of an architecture."""
    if model not in model_names():
        return load(model)
    require_torch("a network of random weights")
    spec = model_spec(str(model), [f"class {index}" for index in range(20)])
    from singleshot.models.build import build_network

    return Detector(spec, build_network(spec.network).state_dict())


def measure_all(
    detector: Detector,
    batch_sizes: Sequence[int],
    combinations: Sequence[tuple[str, str]],
    device: str = AUTO,
    compile: bool = False,
    seconds: float = 3.0,
) -> Iterator[Row]:
    """`benchmark` of given combinations of a backend and a precision."""
    flops = network_flops(detector)
    for backend, precision in combinations:
        if backend != "torch" and device not in (AUTO, "cpu"):
            continue
        on_device = partial(detector.predictor, device=device, compile=compile)
        chosen = partial(on_device if backend == "torch" else detector.predictor, backend=backend, precision=precision)
        for size in batch_sizes:
            try:
                yield measure(chosen, size, detector.spec.preprocess.size_hw, seconds, flops)
            except SingleshotError as error:
                yield Row(f"{backend} {precision}", size, skipped=str(error))
                break
        detector.refresh()  # the next combination needs the memory


def measure(
    open_predictor: Callable[..., Predictor], batch_size: int, size_hw: tuple[int, int], seconds: float, flops: float
) -> Row:
    """One measurement: latency on all cores, then throughput.

    Args:
        open_predictor: `Detector.predictor` with everything but ``images``.
        batch_size: images at once.
        size_hw: of them.
        seconds: for both together.
        flops: of one image.
    """
    predictor = open_predictor(images=1)
    one, images = predictor.backend, _noise(batch_size, size_hw)
    if predictor.takes_pictures:
        images = (images * 50 + 128).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    times = time_calls(lambda: one.predict(images), seconds / 2)
    many = open_predictor().backend
    rate = throughput(many, images, seconds / 2)
    low, middle, high = np.percentile(times, (25, 50, 75))
    device = getattr(one, "device", "cpu")
    return Row(one.name, batch_size, 1000 * middle, 1000 * (high - low), rate, rate * flops / 1e9, device)


def _noise(batch: int, size_hw: tuple[int, int]) -> NDArray[Any]:
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


def throughput(backend: Backend, images: NDArray[Any], seconds: float) -> float:
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
    """Floating-point operations of the network for one image; 0 where there is no torch to count them."""
    if not has_torch() or detector.exported:
        return 0.0
    from singleshot.models.build import build_network
    from singleshot.models.summary import count_flops

    return float(count_flops(build_network(detector.spec.network), detector.spec.preprocess.size_hw))


def peak_gflops(name: str = "fp32", seconds: float = 1.0) -> float:
    """What a device reaches in a large matrix product by torch: 10^9 operations per second.

    Args:
        name: precision, and the device where it is not the CPU (all cores): ``fp32``, ``bf16 cuda``.
        seconds: to measure.
    """
    import torch

    precision, _, device = name.partition(" ")
    is_emulated = not device and precision == "bf16" and not {"amx_bf16", "avx512_bf16"} & processor_flags()
    size = 8192 if device else 256 if is_emulated else 2048  # emulated, the large one would take minutes
    a = torch.randn(size, size, device=device or "cpu", dtype=torch.bfloat16 if precision == "bf16" else torch.float32)

    def multiply() -> None:
        (a @ a)[0, 0].item()  # waits for the device

    return 2 * size**3 / median(time_calls(multiply, seconds)) / 1e9
