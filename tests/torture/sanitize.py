"""All C kernels under gcc's sanitizers, with arguments chosen to break them: ``make sanitize``.

AddressSanitizer and UndefinedBehaviourSanitizer see every access and every operation; ThreadSanitizer sees two threads
of Python in one kernel. (What OpenMP's own threads do among themselves it cannot judge, since it does not see libgomp
wait: there the kernels are compiled without OpenMP.) Arrays end where malloc's do, so that one element too far is seen.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLAGS = {
    "address,undefined": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
    "thread": ("-fsanitize=thread",),
}
LIBRARIES = {"address,undefined": "libasan.so", "thread": "libtsan.so"}
SETTINGS = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1:report_signal_unsafe=0",
}
EXTREMES = np.array([0, -0.0, 1, -1, 1e30, -1e30, 1e-40, np.inf, -np.inf, np.nan, 88.8, -104.1], np.float32)

Rng = np.random.Generator


def floats(rng: Rng, *shape: int) -> NDArray[np.float32]:
    """Numbers, a tenth of them extreme, in memory of their own."""
    values = rng.normal(0, 3, shape).astype(np.float32)
    at = rng.random(shape) < rng.choice([0.0, 0.1])
    values[at] = rng.choice(EXTREMES, int(at.sum()))
    return values


def use_detect(rng: Rng) -> None:
    from singleshot.core.settings import CoderConfig, PostprocessConfig
    from singleshot.kernels import detect

    batch, anchors, columns = int(rng.integers(0, 4)), int(rng.integers(0, 300)), int(rng.integers(1, 23))
    settings = PostprocessConfig(
        score_function=str(rng.choice(["softmax", "sigmoid"])),
        score_threshold=float(rng.choice([0.0, 0.01, 0.5, 1.0])),
        candidates=str(rng.choice(["per_class", "best_class"])),
        pre_nms_top_k=rng.choice([None, 1, 7, 400]),
        top_k_scope=str(rng.choice(["class", "image"])),
        nms=str(rng.choice(["greedy", "none"])),
        nms_iou=float(rng.choice([0.0, 0.45, 1.0])),
        nms_compare=str(rng.choice([">", ">="])),
        class_agnostic=bool(rng.integers(2)),
        max_per_class=rng.choice([None, 1, 9]),
        max_detections=int(rng.choice([1, 10, 2**40])),
        clip=str(rng.choice(["none", "before", "after"])),
    )
    heads = [floats(rng, batch, anchors, 4), floats(rng, batch, anchors, columns)]
    if rng.random() < 0.4:
        heads += [floats(rng, batch, anchors, 4), floats(rng, batch, anchors, 2)]
    if rng.random() < 0.1:
        heads[int(rng.integers(len(heads)))] = floats(rng, batch, anchors + 1, 4)
    coder = CoderConfig(order=str(rng.choice(["xywh", "yxhw"])), max_log_ratio=rng.choice([None, 4.0]))
    size = int(rng.integers(1, 600)), int(rng.integers(1, 600))
    detect.detect(heads, floats(rng, anchors, 4), settings, coder, size, None, int(rng.integers(1, 4)))


def an_image(rng: Rng) -> NDArray[np.uint8]:
    image = rng.integers(0, 256, (int(rng.integers(1, 40)), int(rng.integers(1, 40)), 3), dtype=np.uint8)
    views = (image, image[::-1], image[:, ::-1], image[::2], image[..., ::-1], image[:0])
    return views[int(rng.integers(len(views)))]


def places(rng: Rng, size: int, positions: int, taps: int = 0) -> NDArray[np.int64]:
    """Sorted places in an axis; now and then one outside it."""
    found = np.sort(rng.integers(-taps, max(size + bool(taps), 1), positions))
    if positions and rng.random() < 0.1:
        found[int(rng.integers(positions))] = rng.choice([-taps - 1, size + 1, 2**40, -(2**62)])
    return found


def use_resize(rng: Rng) -> None:
    from singleshot.kernels import resize

    image, (width, height) = an_image(rng), rng.integers(0, 50, 2).tolist()
    numbers = resize.Normalisation(float(floats(rng, 1)[0]), floats(rng, 3).tolist(), floats(rng, 3).tolist(), True)
    taps = [
        resize.AxisTaps(places(rng, size, new), np.clip(places(rng, size, new), 0, size - 1), floats(rng, new))
        for size, new in ((image.shape[1], width), (image.shape[0], height))
    ]
    resize.resize_bilinear(image, taps[0], taps[1], numbers, np.empty((3, height, width), np.float32))
    resize.normalise_bytes(image, numbers, np.empty((3, *image.shape[:2]), np.float32))
    rows = rng.integers(0, max(len(image), 1), (int(rng.integers(0, 5)), height))
    resize.weigh_rows(image, rows, rng.integers(-(2**12), 2**12, rows.shape), 11)


def use_resample(rng: Rng) -> None:
    from singleshot.kernels import resample

    image = an_image(rng)
    filters = []
    for size in image.shape[:2]:
        new, taps = int(rng.integers(0, 60)), int(rng.integers(1, 9))
        filters.append(resample.Filter(places(rng, size, new, taps), floats(rng, new, taps)))
    resample.filter_image(image, *filters)


def use_winograd(rng: Rng) -> None:
    from singleshot.kernels import winograd

    library = winograd.kernel()
    assert library is not None
    layer = winograd.ConvLayer(
        batch=int(rng.choice([0, 1, 2], p=[0.05, 0.5, 0.45])),
        channels=int(rng.choice([16, 32, 144, 5], p=[0.4, 0.4, 0.15, 0.05])),
        height=int(rng.integers(1, 20)),
        width=int(rng.integers(1, 20)),
        filters=int(rng.integers(1, 70)),
        padding=int(rng.integers(1, 4)),
        dilation=int(rng.choice([1, 2, 3], p=[0.8, 0.1, 0.1])),
        relu=bool(rng.integers(2)),
        pool=("", "floor", "ceil")[int(rng.integers(3))],
    )
    threads, rounded = int(rng.integers(1, 3)), -(-layer.filters // winograd.LANES) * winograd.LANES
    weight = floats(rng, layer.filters, layer.channels, 3, 3)
    points = np.empty(winograd.points_size(layer.channels, layer.filters), np.float32)
    steps = tuple(step // 4 for step in weight.strides)
    shape = layer.filters, layer.channels
    winograd.transform_filters(library, weight.ctypes.data, shape, steps, points.ctypes.data, threads)
    images = floats(rng, layer.batch, layer.height, layer.width, layer.channels)
    height, width = (max(side, 0) for side in layer.out_hw)
    output = np.empty((layer.batch, height, width, layer.filters), np.float32)
    addresses = (array.ctypes.data for array in (images, points, floats(rng, rounded), output))
    winograd.convolve(library, layer, winograd.Memory(*addresses), threads)
    plain = layer._replace(relu=False, pool="")
    height, width = plain.out_hw
    gradients = floats(rng, layer.batch, height, width, layer.filters)
    winograd.filter_gradients(library, plain, images.ctypes.data, gradients.ctypes.data, threads)


def use_batch_norm(rng: Rng) -> None:
    from singleshot.kernels import batch_norm

    library = batch_norm.kernel()
    assert library is not None
    rows, channels = int(rng.integers(0, 1500)), int(rng.choice([0, 1, 3, 16, 300]))
    sizes = batch_norm.RowSizes(rows, channels, *sorted(map(float, floats(rng, 2))))
    described = ctypes.byref(batch_norm.c_sizes(sizes))
    parts = sizes.parts(int(rng.integers(1, 5)))
    x, gradient, result = floats(rng, rows, channels), floats(rng, rows, channels), np.empty((rows, channels), "f4")
    mean, variance, scale, shift = (floats(rng, channels) for _ in range(4))
    sums, workspace = np.empty((2, channels)), np.empty((parts, 2, channels))
    calls: tuple[tuple[Callable[..., object], tuple[NDArray[Any], ...]], ...] = (
        (library.batch_statistics, (x, mean, variance, workspace)),
        (library.normalise, (x, scale, shift, result)),
        (library.gradient_sums, (x, gradient, mean, scale, shift, sums, workspace)),
        (library.input_gradient, (x, gradient, mean, scale, shift, variance, mean, result)),
    )
    for function, arrays in calls:
        function(described, *(array.ctypes.data for array in arrays), parts)


KERNELS: dict[str, Callable[[Rng], None]] = {
    "detect": use_detect,
    "resize": use_resize,
    "resample": use_resample,
    "winograd": use_winograd,
    "batch_norm": use_batch_norm,
}


def call_all(sanitizer: str, seconds: float, seed: int) -> None:
    """In the process that has the sanitizer: compile, then call until the time is up."""
    from singleshot.core.files import cache_folder
    from singleshot.kernels import library

    library.FLAGS = (*library.FLAGS, "-O1", "-g", *FLAGS[sanitizer])
    library.COMPILE_LIMIT_S = 600
    if sanitizer == "thread":  # a kernel's own flags stand behind these
        compile_by = library._run
        library._run = lambda command, source: compile_by([word for word in command if word != "-fopenmp"], source)
    threads = 2 if sanitizer == "thread" else 1
    for name, use in KERNELS.items():
        calls, refused, began = 0, 0, 0.0

        def attempt(number: int, name: str = name, use: Callable[[Rng], None] = use) -> bool:
            try:
                use(np.random.default_rng([seed, number, *name.encode()]))
            except (ValueError, MemoryError):
                return True
            return False

        with ThreadPoolExecutor(threads) as pool, np.errstate(all="ignore"):
            while not calls or time.monotonic() - began < seconds / len(KERNELS):
                refused += sum(pool.map(attempt, range(calls, calls + 20)))
                began = began or time.monotonic()  # compiled by now
                calls += 20
        if not list((cache_folder() / "kernels").glob(f"{name}-*.so")):  # it fell back: the sanitizer saw nothing
            sys.exit(f"{name}.c cannot be compiled with {sanitizer}")
        print(f"{sanitizer:<18} {name:<11} {calls:>7,} calls, {refused:>6,} refused in Python", flush=True)


def run(sanitizer: str, seconds: float, seed: int) -> bool:
    """Whether a sanitizer has nothing to say."""
    if shutil.which("gcc") is None:
        print("there is no gcc: install it (apt-get install gcc)")
        return False
    ask = ["gcc", f"-print-file-name={LIBRARIES[sanitizer]}"]
    found = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(found).is_absolute():
        print(f"{sanitizer}: gcc has no {LIBRARIES[sanitizer]} here, nothing was tried: install it")
        return False
    with tempfile.TemporaryDirectory(prefix="sanitize-") as cache:
        variables = os.environ | SETTINGS | {"LD_PRELOAD": found, "SINGLESHOT_CACHE": cache, "CC": "gcc"}
        command = [sys.executable, "-m", "torture.sanitize", "--child", sanitizer]
        command += ["--seconds", str(seconds), "--seed", str(seed)]
        return subprocess.run(command, env=variables | {"OPENBLAS_NUM_THREADS": "1"}, check=False).returncode == 0


def main() -> None:
    """Run all, end with 1 if a sanitizer found something."""
    parser = argparse.ArgumentParser(description="All C kernels under gcc's sanitizers.")
    parser.add_argument("--seconds", type=float, default=30, help="for the calls of each sanitizer, without compiling")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=FLAGS)
    parser.add_argument("--child", choices=FLAGS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        call_all(options.child, options.seconds, options.seed)
        return
    chosen = [options.only] if options.only else list(FLAGS)
    clean = [run(sanitizer, options.seconds, options.seed) for sanitizer in chosen]
    sys.exit(not all(clean))


if __name__ == "__main__":
    main()
