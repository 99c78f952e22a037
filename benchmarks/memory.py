"""Memory of ``singleshot predict`` over a long run: 10,000 photos to JSON with the bundled detector.

    python benchmarks/memory.py --data PHOTOS [--quick] [--json FILE]

The photos appear again and again under other names (links). Each backend runs in a process of its own, whose resident
memory is read while it runs: flat means that the last tenth needs no more than what the second tenth did.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from common import Measured, NotAvailableError, Settings, main
from singleshot.prediction.sources import find_images

IMAGES = 10_000
BACKENDS = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}
EVERY_S = 0.2
MIB = 1024


def resident_mb(process: int) -> tuple[float, float]:
    """Resident memory of a process now, and its peak; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    values = {name: value for name, _, value in (line.partition(":") for line in lines)}
    now, peak = (float(values.get(key, "0 kB").split()[0]) / MIB for key in ("VmRSS", "VmHWM"))
    return now, peak


def watch(command: list[str]) -> tuple[list[float], float, float]:
    """Run a command: its resident memory over time, the peak, and the seconds that it took."""
    started = time.perf_counter()
    values, peak = [], 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            now, highest = resident_mb(process.pid)
            if now:
                values.append(now)
            peak = max(peak, highest)
            time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return values, peak, time.perf_counter() - started


def measure_backend(backend: str, photos: list[Path], images: int) -> Measured:
    """One line: the peak, with what was resident in the second and in the last tenth of the run."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "photos"
        source.mkdir()
        for number, photo in enumerate(itertools.islice(itertools.cycle(photos), images)):
            (source / f"{number:06d}{photo.suffix}").symlink_to(photo.resolve())
        command = [sys.executable, "-m", "singleshot", "predict", str(source), "--backend", backend, "--save", "json"]
        values, peak, seconds = watch([*command, "--out", str(Path(folder) / "out")])
    tenth = max(1, len(values) // 10)
    early, late = max(values[tenth : 2 * tenth] or values), max(values[-tenth:])
    note = f"{early:.0f} MB in the second tenth, {late:.0f} MB in the last; {images / seconds:.1f} img/s with the start"
    return Measured(f"memory of predict, {images:,} photos", f"singleshot, {backend}", peak, "MB", 0.0, note=note)


def measure_row(settings: Settings) -> list[Measured]:
    """Peak resident megabytes of each backend."""
    if settings.data is None:
        raise NotAvailableError("photos are needed: --data FOLDER")
    if not Path("/proc/self/status").exists():
        raise NotAvailableError("memory is read from /proc, which this system has not")
    photos = find_images(settings.data, recursive=True)
    images = settings.choose(IMAGES, 1000, 20)
    return [measure_backend(name, photos, images) for name, module in BACKENDS.items() if find_spec(module)]


if __name__ == "__main__":
    main(__doc__, measure_row)
