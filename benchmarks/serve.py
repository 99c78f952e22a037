"""The service on loopback: start, memory, photos a second and latency by clients, overload, deadlines.

    python benchmarks/serve.py PHOTOS [--model coco] [--seconds 10] [--clients 1 8 32 128] [--json FILE]

Everything runs in one go on one machine: first `predict` over the photos, then `singleshot serve` in a process of its
own, with clients (threads with a connection each, in this process) that send one photo after the other. Every answer is
compared with what `predict` found. Overload is four times as many clients as the queue has places. Deadlines are asked
of requests that must wait, and their error is how far from the deadline the 504 arrived here.

CPU milliseconds of a photo, of `predict` and of the service's process, also tell something on a machine that others
use: where all cores are busy, photos a second are in their ratio.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import singleshot
from singleshot.prediction.frames import Prediction

DEADLINE_MS = 150


class Photo(NamedTuple):
    """A file's bytes, and what `predict` finds in it."""

    data: bytes
    found: list[dict[str, Any]]


@dataclass
class Load:
    """What clients saw: seconds of each answer by code, answers that differ from `predict`'s, and lost requests."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    wrong: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0

    def row(self) -> dict[str, Any]:
        """For people and JSON."""
        good = self.seconds.get(200, [])
        times = {f"p{part}_ms": round(1000 * float(np.percentile(good, part)), 1) for part in (50, 99) if good}
        codes = {str(code): len(times) for code, times in sorted(self.seconds.items())}
        return {
            "photos_per_s": round(len(good) / self.wall_s, 2), **times, "codes": codes, "wrong": self.wrong,
            "lost": dict(self.lost),
        }  # fmt: skip


class Server:
    """`singleshot serve` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def memory_mb(self) -> float:
        """Resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    def cpu_s(self) -> float:
        """Seconds of CPU of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    """The service, ended by SIGTERM."""
    command = [sys.executable, "-m", "singleshot", "serve", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield Server(process, int(line.split()[2].rpartition(":")[2]))
        finally:
            process.terminate()
            assert process.wait(60) == 0


def ask(connection: http.client.HTTPConnection, photo: Photo, headers: Mapping[str, str], load: Load) -> int:
    """One request; its time and its answer are noted."""
    begin = time.perf_counter()
    connection.request("POST", "/detect", photo.data, {"Content-Type": "image/jpeg", **headers})
    response = connection.getresponse()
    body = response.read()
    load.seconds.setdefault(response.status, []).append(time.perf_counter() - begin)
    if response.status == 200:
        load.wrong += json.loads(body)["results"][0]["detections"] != photo.found
    return response.status


def put_under_load(
    port: int, photos: Sequence[Photo], clients: int, seconds: float, headers: Mapping[str, str] | None = None
) -> Load:
    """So many clients, each sending one photo after the other."""
    loads = [Load() for _ in range(clients)]
    begin = time.perf_counter()

    def run(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        at = number * 7
        while time.perf_counter() < begin + seconds:
            try:
                code = ask(connection, photos[at % len(photos)], headers or {}, loads[number])
            except (OSError, http.client.HTTPException) as error:
                loads[number].lost[type(error).__name__] += 1
                connection.close()
                continue
            at += 1
            if code == 503:
                time.sleep(0.05)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = Load(wall_s=time.perf_counter() - begin)
    for load in loads:
        whole.wrong += load.wrong
        whole.lost += load.lost
        for code, times in load.seconds.items():
            whole.seconds.setdefault(code, []).extend(times)
    return whole


def predict_rate(model: str, paths: Sequence[Path], seconds: float) -> tuple[float, float, list[Photo]]:
    """Photos a second of `predict`, CPU seconds of a photo, and what it finds."""
    predictor = singleshot.load(model).predictor(images=1000)
    found = [result for result in predictor.stream(paths, 1) if isinstance(result, Prediction)]
    rounds, begin, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() < begin + seconds:
        rounds += sum(1 for _ in predictor.stream(paths, 1))
    rate = rounds / (time.perf_counter() - begin)
    own_s = (time.process_time() - cpu) / rounds
    return (
        rate,
        own_s,
        [Photo(Path(result.frame.name).read_bytes(), result.detections.to_dict()["detections"]) for result in found],
    )


def overload(server: Server, photos: Sequence[Photo], seconds: float, tell: Callable[[str, Any], None]) -> None:
    """More than it can do, and deadlines that it cannot keep."""
    before = server.memory_mb()
    tell("overload: 256 clients, a queue of 64", put_under_load(server.port, photos, 256, 2 * seconds).row())
    tell("memory before and after overload, MB", (round(before), round(server.memory_mb())))
    late = put_under_load(server.port, photos, 32, seconds, {"X-Deadline-Ms": str(DEADLINE_MS)})
    tell(f"deadline {DEADLINE_MS} ms, 32 clients", late.row())
    errors = [1000 * own - DEADLINE_MS for own in late.seconds.get(504, [])]
    passed = [error for error in errors if error > 0]
    if passed:
        parts = [round(float(np.percentile(passed, part)), 1) for part in (50, 99)]
        tell("504 after the deadline by, ms (p50, p99)", parts)
    tell("504 before the deadline (it could not be met)", sum(error <= 0 for error in errors))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="coco")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--count", type=int, default=64, help="photos that are taken from the folder")
    parser.add_argument("--short", action="store_true", help="no overload and no deadlines")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    paths = sorted(options.photos.rglob("*.jpg"))[: options.count]
    if not paths:
        parser.error(f"no .jpg below {options.photos}")
    results: dict[str, Any] = {}

    def tell(name: str, value: Any) -> None:
        results[name] = value
        print(f"{name}: {value}", flush=True)

    sys.setswitchinterval(0.0005)  # or 32 clients would see answers late that wait for Python's lock here
    rate, cpu_s, photos = predict_rate(options.model, paths, options.seconds)
    tell("predict", {"photos_per_s": round(rate, 2), "cpu_ms": round(1000 * cpu_s, 1)})
    begin = time.perf_counter()
    with serving(options.model, "--queue", "64") as server:
        put_under_load(server.port, photos, 1, 0.001)
        tell("first answer after, s", {"wall": round(time.perf_counter() - begin, 2), "cpu": server.cpu_s()})
        tell("idle memory, MB", round(server.memory_mb()))
        for clients in options.clients:
            cpu = server.cpu_s()
            load = put_under_load(server.port, photos, clients, options.seconds)
            own_s = (server.cpu_s() - cpu) / max(1, len(load.seconds.get(200, [])))
            shares = {"of predict": round(load.row()["photos_per_s"] / rate, 3), "cpu_ms": round(1000 * own_s, 1)}
            tell(f"{clients} clients", load.row() | shares | {"predict's cpu by its own": round(cpu_s / own_s, 3)})
        if not options.short:
            overload(server, photos, options.seconds, tell)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
