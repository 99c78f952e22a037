"""What all benchmarks share: turns, medians, the machine's own limits, the table and the JSON file.

A row is a function ``measure_row(settings) -> list[Measured]`` in a file of its own; ``run.py`` calls them. Contenders
take turns in every round, so that a busy machine slows all alike, and ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from singleshot.core.memory import EVERYTHING, LARGEST_KEPT, LARGEST_USUAL, MMAP_THRESHOLD, TRIM_THRESHOLD
from singleshot.training.precision import cpu_bf16_units

PACKAGES = (
    "singleshot", "torch", "numpy", "opencv-python-headless", "openvino", "onnxruntime", "torchvision",
    "faster-coco-eval",
)  # fmt: skip
OURS = "singleshot"

Size = Literal["full", "quick", "tiny"]
"""How much is measured: what the documents report, a look, or only whether the code runs."""


class Settings(NamedTuple):
    """How to measure.

    Attributes:
        size: amount of work; ``tiny`` also shrinks the work itself, so that its numbers mean nothing.
        threads: of every contender.
        data: labelled images, for rows that need photos.
        reference: folder of the reference data, for rows that need golden files.
        peers: checkouts of other systems (ssd.pytorch).
    """

    size: Size = "full"
    threads: int = 2
    data: Path | None = None
    reference: Path | None = None
    peers: tuple[Path, ...] = ()

    def choose(self, full: Any, quick: Any, tiny: Any) -> Any:
        """The value for this size."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.size]


class Measured(NamedTuple):
    """One line of the table.

    Attributes:
        row, contender: what was done, and who did it; our contenders' names begin with ``singleshot``.
        median, unit: of all rounds.
        spread: half the distance of the quartiles, over the median.
        ratio: how many times as fast as the best peer of the same run; ``None`` for peers, or without any.
        goal: the ratio to reach.
        share_of_peak: of what the machine reaches in a large matrix product in the same precision and threads.
        note: what else must be known.
        values: of every round.
    """

    row: str
    contender: str
    median: float
    unit: str
    spread: float
    ratio: float | None = None
    goal: float | None = None
    share_of_peak: float | None = None
    note: str = ""
    values: tuple[float, ...] = ()


class NotAvailableError(Exception):
    """A row cannot be measured here; the message says why."""


def take_turns(
    contenders: Mapping[str, Callable[[], object]], rounds: int, own_memory: bool = False
) -> dict[str, list[float]]:
    """Seconds of each contender in every round; a first round warms up and does not count.

    With ``own_memory`` each has the allocator's settings that it would have in a process of its own, and runs once
    untimed before each turn, since what the others left of the memory is not what it would have left.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            if own_memory:
                set_allocator(keep=name.startswith(OURS))
                run()
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def set_allocator(keep: bool) -> None:
    """glibc's settings as ours has them, which keep freed memory, or as a process without wishes comes to have them.

    These are: blocks of over 32 MiB come from the system and go back at once, and so does the end of a heap of over
    64 MiB.
    """
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(TRIM_THRESHOLD, EVERYTHING if keep else 2**26)
        libc.mallopt(MMAP_THRESHOLD, LARGEST_KEPT if keep else LARGEST_USUAL)
        libc.malloc_trim(0)


def spread_of(values: Sequence[float]) -> float:
    """Half the distance of the quartiles over the median."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float((high - low) / 2 / middle) if middle else 0.0


def compare(
    row: str,
    values: Mapping[str, Sequence[float]],
    *,
    goals: Mapping[str, float] | None = None,
    notes: Mapping[str, str] | None = None,
    shares: Mapping[str, float] | None = None,
    unit: str = "ms",
    scale: float = 1e3,
    larger_is_better: bool = False,
) -> list[Measured]:
    """One line per contender, ours with the ratio to the best peer.

    Args:
        row: what was done.
        values: of each contender in every round.
        goals, notes, shares: per contender.
        unit, scale: the values are multiplied by ``scale`` to be in ``unit``.
        larger_is_better: the values are rates, not times.
    """
    choose = max if larger_is_better else min
    peers = [name for name in values if not name.startswith(OURS)]
    best = choose(peers, key=lambda name: median(values[name])) if peers else None
    lines = []
    for name, own in values.items():
        ratio = None
        if best and name.startswith(OURS):
            quotients = [other / mine for other, mine in zip(values[best], own, strict=True)]
            ratio = median([1 / quotient for quotient in quotients] if larger_is_better else quotients)
        scaled = tuple(value * scale for value in own)
        goal, note, share = ((table or {}).get(name) for table in (goals, notes, shares))
        lines.append(Measured(row, name, median(scaled), unit, spread_of(own), ratio, goal, share, note or "", scaled))
    return lines


@functools.cache
def float_precisions() -> tuple[str, ...]:
    """What this processor computes in. bf16 without units for it is emulated, minutes for a matrix product."""
    if cpu_bf16_units():
        return ("fp32", "bf16")
    print("bf16 is left out: this processor has no units for it", file=sys.stderr)
    return ("fp32",)


def peak_flops(dtype: torch.dtype, device: str = "cpu", side: int = 2048, rounds: int = 7) -> float:
    """Floating-point operations a second of a large matrix product, the best of some rounds."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(rounds + 1):
        started = clock(device)
        torch.matmul(left, right)
        best = max(best, 2 * side**3 / (clock(device) - started))
    return best


def clock(device: str = "cpu") -> float:
    """Seconds, once the device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def machine(threads: int) -> dict[str, Any]:
    """Hardware and versions."""
    model = platform.processor() or platform.machine()
    if (cpu := Path("/proc/cpuinfo")).is_file():
        model = next(
            (line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")),
            model,
        )
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": threads,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def show(lines: Sequence[Measured], missing: Mapping[str, str]) -> None:
    """Print the table, and what is not in it."""
    table = Table("row", "contender", title="benchmarks")
    for name in ("median", "unit", "spread", "ratio", "goal", "of peak"):
        table.add_column(name, justify="left" if name == "unit" else "right")
    last = ""
    for line in lines:
        if line.row != last:
            table.add_section()
        table.add_row(
            line.row if line.row != last else "",
            line.contender,
            f"{line.median:,.4g}",
            line.unit,
            f"{line.spread:.0%}",
            "" if line.ratio is None else f"{line.ratio:.2f}x",
            "" if line.goal is None else f"{line.goal:g}x",
            "" if line.share_of_peak is None else f"{line.share_of_peak:.0%}",
        )
        last = line.row
    console = Console(width=None if Console().is_terminal else 150)
    console.print(table)
    for line in lines:
        if line.note:
            console.print(f"{line.row}, {line.contender}: {line.note}", highlight=False, markup=False)
    for name, reason in missing.items():
        console.print(f"{name}: not available: {reason}", highlight=False, markup=False)


def write_json(path: Path, settings: Settings, lines: Sequence[Measured], missing: Mapping[str, str]) -> None:
    """Everything that was measured, and where."""
    content = {
        "machine": machine(settings.threads),
        "settings": settings._asdict(),
        "rows": [line._asdict() for line in lines],
        "not_available": dict(missing),
    }
    path.write_text(json.dumps(content, indent=1, default=str) + "\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that all benchmarks have."""
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, nothing to report")
    parser.add_argument("--tiny", action="store_true", help="shrink the work too: only shows that the code runs")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--data", type=Path, help="labelled images")
    parser.add_argument("--reference", type=Path, help="folder with golden files and weights of other systems")
    parser.add_argument("--peers", type=Path, nargs="*", default=[], help="checkouts of other systems: ssd.pytorch")
    parser.add_argument("--json", type=Path, help="write the numbers here")


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that were asked for; sets the threads of this process, too."""
    import cv2

    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    size: Size = "tiny" if options.tiny else "quick" if options.quick else "full"
    return Settings(size, options.threads, options.data, options.reference, tuple(options.peers))


def main(doc: str | None, measure_row: Callable[[Settings], list[Measured]]) -> None:
    """Measure one row from the command line."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    options = parser.parse_args()
    settings = settings_of(options)
    lines = measure_row(settings)
    show(lines, {})
    if options.json:
        write_json(options.json, settings, lines, {})
