"""The service on loopback: start, memory, photos a second and latency by clients, overload, deadlines.

    python benchmarks/serve.py PHOTOS [--model coco] [--seconds 10] [--clients 1 8 32 128] [--json FILE]

Everything runs in one go on one machine: first `predict` over the photos, then `singleshot serve` in a process of its
own, with clients in a third one (`clients.py`), a connection each. Every answer is compared with what `predict` found.
4x capacity are photos at random times, so many a second whatever is answered. How late a 504 was is told twice: by the
service's log, from a request's header to its answer, and by the client, from before it began to send the photo.

CPU milliseconds of a photo, of `predict` and of the service's process, also tell something on a machine that others
use: where all cores are busy, photos a second are in their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import singleshot
from clients import post, run_clients
from singleshot.prediction.frames import Prediction

DEADLINE_MS = 300
SECONDS_EACH = 8.0  # for a model that is replaced
Tell = Callable[[str, Any], None]


class Photo(NamedTuple):
    """A file's bytes, and what `predict` finds in it."""

    data: bytes
    found: list[dict[str, Any]]


@dataclass
class Load:
    """What clients saw: seconds of each answer by code, answers unlike `predict`'s, what was lost, ids of 504s."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    wrong: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
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

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def milliseconds(self) -> dict[str, float]:
        """From a request's header to its answer, as the service logs it, by its id."""
        time.sleep(0.2)  # lines are written a little later
        lines = (json.loads(line) for line in self.log.read_text().splitlines())
        return {line["request_id"]: line["ms"] for line in lines if line["event"] == "request"}

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
    with (
        tempfile.NamedTemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield Server(process, int(line.split()[2].rpartition(":")[2]), Path(log.name))
        finally:
            process.terminate()
            assert process.wait(60) == 0


def put_under_load(
    port: int,
    photos: Sequence[Photo],
    clients: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    per_second: float | None = None,
    even: bool = False,
) -> Load:
    """So many clients in a process of their own, each sending one photo after the other; or photos at a rate."""
    requests = [post("/detect", photo.data, {"Content-Type": "image/jpeg", **(headers or {})}) for photo in photos]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        done = pool.submit(run_clients, port, requests, clients, seconds, per_second, False, even).result()
    load = Load(wall_s=max(one.end for one in done) - min(one.begin for one in done))
    for one in done:
        if not one.code:
            load.lost["no answer"] += 1
            continue
        load.seconds.setdefault(one.code, []).append(one.end - one.begin)
        if one.code == 200:
            load.wrong += json.loads(one.body)["results"][0]["detections"] != photos[one.request].found
        elif one.code == 504:
            load.ids.append(json.loads(one.body)["error"]["request_id"])
    return load


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


def overload(server: Server, photos: Sequence[Photo], options: argparse.Namespace, tell: Tell, rate: float) -> None:
    """More than it can do, and deadlines that it cannot keep."""
    before, seconds = server.memory_mb(), options.overload_seconds
    tell(f"4x capacity for {seconds:g} s", put_under_load(server.port, photos, 400, seconds, None, 4 * rate).row())
    tell("memory before and after, MB", (round(before), round(server.memory_mb())))
    headers = {"X-Deadline-Ms": str(DEADLINE_MS)}
    asked = (
        ("2x capacity", 200, 2 * rate),
        ("4x capacity", 400, 4 * rate),
        ("32 clients that ask again at once", 32, None),
    )
    for name, clients, per_second in asked:
        late = put_under_load(server.port, photos, clients, options.seconds, headers, per_second)
        tell(f"deadline {DEADLINE_MS} ms, {name}", late.row())
        logged = server.milliseconds()
        ours = [logged[own] - DEADLINE_MS for own in late.ids if own in logged]
        theirs = [1000 * own - DEADLINE_MS for own in late.seconds.get(504, [])]
        for what, errors in (("sent by the service", ours), ("at the client, from before it was sent", theirs)):
            passed = [error for error in errors if error > 0]
            if passed:
                parts = [round(float(np.percentile(passed, part)), 1) for part in (50, 90, 99)]
                tell(f"504 after the deadline, {what}, ms (p50, p90, p99)", parts)
        tell("504 before the deadline (it could not be met)", sum(error <= 0 for error in ours))


def steady(server: Server, photos: Sequence[Photo], seconds: float, tell: Tell, rate: float) -> None:
    """At 80 % load, at even and at random times; at random ones, waiting for one worker alone makes p99 4.9 x p50."""
    for times, even in (("even", True), ("random", False)):
        row = put_under_load(server.port, photos, 64, seconds, None, 0.8 * rate, even).row()
        tell(f"80 % load at {times} times", row | {"p99 of p50": round(row["p99_ms"] / row["p50_ms"], 2)})


def replaced(model: str, photos: Sequence[Photo], times: int, tell: Tell) -> None:
    """A file of a watched folder is replaced under load: every request is answered, and as before."""
    detector, loaded = singleshot.load(model), 0
    with tempfile.TemporaryDirectory() as folder:
        path = detector.save(Path(folder, "model.safetensors"))
        with serving("--watch", folder) as server, ThreadPoolExecutor(1) as pool:
            begun = pool.submit(put_under_load, server.port, photos, 8, SECONDS_EACH * times)
            while loaded < times and not begun.done():
                before = server.log.read_text().count("is served from")
                detector.save(path)
                while server.log.read_text().count("is served from") == before and not begun.done():
                    time.sleep(0.2)
                loaded += not begun.done()
            load = begun.result()
    tell(f"a model replaced {loaded} times under load", load.row())


def ended(model: str, photos: Sequence[Photo], times: int, tell: Tell) -> None:
    """SIGTERM under load: what was accepted is answered."""
    lost: Counter[str] = Counter()
    for _ in range(times):
        with serving(model) as server, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            requests = [post("/detect", photo.data, {"Content-Type": "image/jpeg"}) for photo in photos]
            begun = pool.submit(run_clients, server.port, requests, 8, 2.0, None, True)
            time.sleep(1.5)
            server.process.terminate()
            done = begun.result()
            lost.update("answered" if one.code == 200 else f"lost: {one.code}" for one in done)
    tell(f"SIGTERM under load {times} times", dict(lost))


def under_clients(options: argparse.Namespace, photos: Sequence[Photo], rate: float, cpu_s: float, tell: Tell) -> None:
    """One service: its start, then more and more clients, then more than it can do."""
    begin = time.perf_counter()
    with serving(options.model, "--queue", "64") as server:
        put_under_load(server.port, photos, 1, 0.001)
        tell("first answer after, s", {"wall": round(time.perf_counter() - begin, 2), "cpu": server.cpu_s()})
        tell("idle memory, MB", round(server.memory_mb()))
        capacity = 1.0
        for clients in options.clients:
            cpu = server.cpu_s()
            load = put_under_load(server.port, photos, clients, options.seconds)
            capacity = max(capacity, load.row()["photos_per_s"])
            own_s = (server.cpu_s() - cpu) / max(1, len(load.seconds.get(200, [])))
            shares = {"of predict": round(load.row()["photos_per_s"] / rate, 3), "cpu_ms": round(1000 * own_s, 1)}
            tell(f"{clients} clients", load.row() | shares | {"predict's cpu by its own": round(cpu_s / own_s, 3)})
        if not options.short:
            steady(server, photos, options.seconds, tell, capacity)
            overload(server, photos, options, tell, capacity)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="coco")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--count", type=int, default=64, help="photos that are taken from the folder")
    parser.add_argument("--short", action="store_true", help="no overload and no deadlines")
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    parser.add_argument("--sigterm", type=int, default=0, help="how many times it is ended under load")
    parser.add_argument("--replace", type=int, default=0, help="how many times its model is replaced under load")
    parser.add_argument("--only-ends", action="store_true", help="only --sigterm and --replace")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    paths = sorted(options.photos.rglob("*.jpg"))[: options.count]
    if not paths:
        parser.error(f"no .jpg below {options.photos}")
    results: dict[str, Any] = {}

    def tell(name: str, value: Any) -> None:
        results[name] = value
        print(f"{name}: {value}", flush=True)

    rate, cpu_s, photos = predict_rate(options.model, paths, options.seconds)
    tell("predict", {"photos_per_s": round(rate, 2), "cpu_ms": round(1000 * cpu_s, 1)})
    if not options.only_ends:
        under_clients(options, photos, rate, cpu_s, tell)
    if options.sigterm:
        ended(options.model, photos, options.sigterm, tell)
    if options.replace:
        replaced(options.model, photos, options.replace, tell)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
