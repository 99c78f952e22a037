"""`predict` over an engine against `predict` alone: photos a second, equal rows, and what is left after kills.

    python benchmarks/batch.py speed PHOTOS [--count 20000] [--engines ray,processes]
    python benchmarks/batch.py kills PHOTOS [--count 2000] [--kills 10] [--engine ray] [--seed 0]

``PHOTOS`` is a folder of images; a job of any size is made of links to them. Everything is written as Parquet.
``speed`` runs one after the other, each as a command of its own, so that starting Ray counts. ``kills`` starts a
cluster of two Ray nodes of one core on this machine (for ``processes``: none), kills the command or a worker with
``kill -9`` at random moments, goes on with ``--resume``, and compares the rows with those of `predict` alone.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import ray.util

from singleshot.prediction.sources import find_images

PREDICT = (sys.executable, "-m", "singleshot", "predict")
RAY = Path(sys.executable).with_name("ray")
WORKER_NAMES = {"ray": b"ray::", "processes": b"multiprocessing"}
LONGEST_S = 3600
PORT = 6399
SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def make_job(photos: Path, folder: Path, count: int) -> Path:
    """A folder of ``count`` links to photos."""
    found = find_images(photos, recursive=True)
    folder.mkdir()
    for number in range(count):
        source = found[number % len(found)].resolve()
        (folder / f"{number:06d}{source.suffix}").symlink_to(source)
    return folder


def command(job: Path, out: Path, engine: str | None, *more: str) -> list[str]:
    """The arguments of a run."""
    engine_options = ("--engine", engine, "--workers", str(os.cpu_count())) if engine else ()
    return [*PREDICT, str(job), "--save", "parquet", "--out", str(out), *engine_options, *more]


def rows_of(out: Path) -> pa.Table:
    """All rows in the order of the job, whether one file holds them or many."""
    table = ds.dataset(out / "detections.parquet", format="parquet").to_table()
    kept = table.drop_columns([name for name in ("time_s", "track_id") if name in table.column_names])
    order = [(name, "ascending") for name in ("image", "class_id", "score", "x1", "y1", "x2", "y2")]
    return kept.sort_by(order).combine_chunks()


def judged(found: pa.Table, wanted: pa.Table) -> str:
    """How the rows of a run compare with those of `predict` alone."""
    have, want = (set(table["image"].to_pylist()) for table in (found, wanted))
    equal = found.replace_schema_metadata().equals(wanted.replace_schema_metadata())
    counts = f"{len(want)} images, {len(want - have)} missing, {len(found)} rows of {len(wanted)}"
    return f"{counts}, {'all equal' if equal else 'NOT EQUAL'}"


def speed(options: argparse.Namespace, folder: Path) -> None:
    """Times of `predict` and of each engine, and whether their rows are equal."""
    job = make_job(options.photos, folder / "photos", options.count)
    rates: dict[str | None, float] = {}
    wanted = None
    for engine in (None, *options.engines.split(",")):
        out = folder / (engine or "alone")
        start = time.perf_counter()
        subprocess.run(command(job, out, engine), check=True, timeout=LONGEST_S, **SILENT)  # type: ignore[call-overload]
        rates[engine] = options.count / (time.perf_counter() - start)
        rows = rows_of(out)
        wanted = rows if wanted is None else wanted
        share = rates[engine] / rates[None]
        print(f"{engine or 'predict'}: {rates[engine]:.1f} photos/s ({share:.3f}); {judged(rows, wanted)}", flush=True)


@contextmanager
def two_nodes() -> Iterator[tuple[str, ...]]:
    """A Ray cluster of two nodes of a core each, on this machine; gives the options of `predict` that lead to it."""
    quiet = {**SILENT, "check": True, "timeout": 300}
    os.environ["RAY_AUTH_MODE"] = "disabled"  # else a head asks for a token that the others do not have
    head = ("--head", "--port", str(PORT), "--include-dashboard", "false")
    subprocess.run([RAY, "start", *head, "--num-cpus", "1"], **quiet)  # type: ignore[call-overload]
    address = f"{ray.util.get_node_ip_address()}:{PORT}"
    try:
        subprocess.run([RAY, "start", "--address", address, "--num-cpus", "1"], **quiet)  # type: ignore[call-overload]
        yield ("--address", address)
    finally:
        subprocess.run([RAY, "stop", "--force"], **quiet)  # type: ignore[call-overload]


def workers(name: bytes) -> list[int]:
    """Processes of a worker that holds a detector."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and name in (entry / "cmdline").read_bytes() and _is_large(entry):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _is_large(entry: Path) -> bool:
    """More than 150 MiB: helpers of Ray and of multiprocessing are smaller than a detector's process."""
    return int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > 150 << 20


def kills(options: argparse.Namespace, folder: Path) -> None:
    """Kill the command and its workers in turn until all kills are done, then let it end."""
    job = make_job(options.photos, folder / "photos", options.count)
    subprocess.run(command(job, folder / "alone", None), check=True, timeout=LONGEST_S, **SILENT)  # type: ignore[call-overload]
    wanted, rng = rows_of(folder / "alone"), random.Random(options.seed)
    with two_nodes() if options.engine == "ray" else _no_nodes() as address:
        more = (*address, "--part-size", "64")
        for number in range(options.kills):
            resume = ("--resume",) if (folder / "out").exists() else ()
            process = subprocess.Popen(command(job, folder / "out", options.engine, *more, *resume), **SILENT)
            time.sleep(rng.uniform(8, 20))
            victims = workers(WORKER_NAMES[options.engine]) if number % 2 else []
            if process.poll() is not None:
                print(f"kill {number + 1}: too late, it had ended with {process.returncode}", flush=True)
                continue
            os.kill(rng.choice(victims) if victims else process.pid, signal.SIGKILL)
            time.sleep(rng.uniform(4, 8) if victims else 0)  # a worker that died is replaced meanwhile
            state = "goes on" if process.poll() is None and victims else "ended"
            parts = len(list((folder / "out").rglob("part-*.parquet")))
            print(
                f"kill {number + 1}: {'a worker' if victims else 'the command'}; it {state}, {parts} parts", flush=True
            )
            process.kill()
            process.wait()
        rest = command(job, folder / "out", options.engine, *more, "--resume")
        last = subprocess.run(rest, timeout=LONGEST_S, **SILENT)
    print(f"exit code {last.returncode}; {judged(rows_of(folder / 'out'), wanted)}")


@contextmanager
def _no_nodes() -> Iterator[tuple[str, ...]]:
    yield ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "kills"))
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--engines", default="ray,processes", help="of speed")
    parser.add_argument("--engine", default="ray", choices=tuple(WORKER_NAMES), help="of kills")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.count = options.count or {"speed": 20_000, "kills": 2_000}[options.what]
    folder = Path(tempfile.mkdtemp())
    try:
        (speed if options.what == "speed" else kills)(options, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
