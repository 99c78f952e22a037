"""The service beside LitServe, BentoML and Ray Serve around the same detector, under the same clients.

    python benchmarks/serve_peers.py PHOTOS --peer litserve=PYTHON --peer bentoml=PYTHON --peer ray=PYTHON
    python benchmarks/serve_peers.py PHOTOS --peer granian=PYTHON   # our own service, by another HTTP server

PYTHON is the interpreter of an environment that holds that system, and singleshot. All take turns, round after round,
and ratios are medians of the rounds' ratios, so that a busy machine slows all alike. Every system runs `singleshot
serve`'s own engine (OpenVINO's throughput mode); the others in two workers, since each of theirs sees one photo at a
time. What comes back is the same JSON, and is compared with what `predict` found.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from clients import Exchange, post, run_clients

WORKERS = 2
OURS = "singleshot"
PATH = {OURS: "/detect", "litserve": "/predict", "bentoml": "/detect", "ray": "/", "granian": "/detect"}
BOUNDARY = "photo"


class Model:
    """The detector as all the others serve it: bytes in, what JSON holds out."""

    def __init__(self, name: str) -> None:
        import singleshot

        self.predictor = singleshot.load(name).predictor(images=1000)

    def __call__(self, data: bytes) -> list[dict[str, Any]]:
        """Detections of one photo."""
        from singleshot.prediction.frames import Encoded, Frame

        frame = self.predictor.load(Encoded(data, "photo"), 0)
        assert isinstance(frame, Frame)
        found = self.predictor.detect(self.predictor.input_of([frame.pixels]))
        result: Any = self.predictor.finish(found, 0, frame)
        rows: list[dict[str, Any]] = result.detections.to_dict()["detections"]
        return rows


HEAD = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom serve_peers import Model\n"
LITSERVE = """
import litserve
class Api(litserve.LitAPI):
    def setup(self, device): self.model = Model(MODEL)
    def decode_request(self, request): return request["photo"].file.read()
    def predict(self, data): return self.model(data)
    def encode_response(self, output): return {"detections": output}
if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=WORKERS, timeout=120)
    server.run(port=PORT, host="127.0.0.1", log_level="error", generate_client_file=False)
"""
BENTOML = """
from pathlib import Path
import bentoml
@bentoml.service(workers=WORKERS, threads=1, traffic={"timeout": 120})
class Photos:
    def __init__(self): self.model = Model(MODEL)
    @bentoml.api
    def detect(self, photo: Path) -> dict: return {"detections": self.model(photo.read_bytes())}
"""

GRANIAN = """
import gc, sys
from singleshot.serving.app import build_app
from singleshot.serving.options import ServeOptions
from singleshot.serving.repository import Repository
repository = Repository(ServeOptions(queue=256))
repository.load(MODEL, MODEL)
app = build_app(repository)
sys.setswitchinterval(0.001)
gc.collect(), gc.freeze()
"""


def run_file(text: str, name: str, port: int, *command: str) -> None:
    """Become Python with a file: these systems start processes that import what they serve."""
    os.chdir(tempfile.mkdtemp())
    settings = f"MODEL, PORT, WORKERS = {name!r}, {port}, {WORKERS}\n"
    Path("served.py").write_text(HEAD + settings + text)
    os.execv(sys.executable, [sys.executable, *command])


def serve_litserve(name: str, port: int) -> None:
    """LitServe; its body is a form."""
    run_file(LITSERVE, name, port, "served.py")


def serve_bentoml(name: str, port: int) -> None:
    """BentoML."""
    run_file(BENTOML, name, port, "-m", "bentoml", "serve", "served:Photos", "-p", str(port), "--host", "127.0.0.1")


def serve_granian(name: str, port: int) -> None:
    """Our application by granian: one process, as the models are in it."""
    where = ("--host", "127.0.0.1", "--port", str(port))
    run_file(GRANIAN, name, port, "-m", "granian", "--interface", "asginl", "--loop", "uvloop", *where, "served:app")


def serve_ray(name: str, port: int) -> None:
    """Ray Serve."""
    import ray
    from ray import serve

    @serve.deployment(num_replicas=WORKERS, max_ongoing_requests=1, ray_actor_options={"num_cpus": 0})
    class Photos:
        def __init__(self) -> None:
            sys.path.insert(0, str(Path(__file__).parent))
            from serve_peers import Model as OwnModel

            self.model = OwnModel(name)

        async def __call__(self, request: Any) -> dict[str, Any]:
            return {"detections": self.model(await request.body())}

    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Photos.bind())
    while True:
        time.sleep(60)


SYSTEMS: dict[str, Callable[[str, int], None]] = {
    "litserve": serve_litserve, "bentoml": serve_bentoml, "ray": serve_ray, "granian": serve_granian,
}  # fmt: skip


def request_of(system: str, data: bytes) -> bytes:
    """A photo as this system wants it."""
    if system in (OURS, "granian", "ray"):
        return post(PATH[system], data, {"Content-Type": "image/jpeg"})
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    return post(PATH[system], body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})


@contextmanager
def started(system: str, python: str, model: str) -> Iterator[int]:
    """A system in processes of its own, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [python, str(Path(__file__)), "--be", system, "--port", str(port), "--model", model]
    if system == OURS:
        command = [python, "-m", "singleshot", "serve", model, "--port", str(port), "--queue", "256"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(command, process_group=0, env=environment, **quiet)  # type: ignore[call-overload]
    try:
        yield port
    finally:
        os.killpg(process.pid, 15)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):  # workers that outlive their parent
            os.killpg(process.pid, 9)


def wait_for(port: int, request: bytes) -> None:
    """Wait for the first right answer."""
    end = time.monotonic() + 180
    while True:
        try:
            if run_clients(port, [request], 1, 0.001)[0].code == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < end, "it does not answer"
        time.sleep(1)


def wrong(exchanges: Sequence[Exchange], found: Sequence[Any]) -> int:
    """How many answers are not what `predict` found."""
    right = 0
    for exchange in exchanges:
        document = json.loads(exchange.body) if exchange.code == 200 else {}
        rows = document["results"][0]["detections"] if "results" in document else document.get("detections")
        right += rows == found[exchange.request]
    return len(exchanges) - right


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All systems in turns."""
    paths = sorted(options.photos.rglob("*.jpg"))[:32]
    model = Model(options.model)
    found = [json.loads(json.dumps(model(path.read_bytes()))) for path in paths]
    pythons = {OURS: sys.executable} | dict(word.split("=", 1) for word in options.peer)
    rates: dict[str, list[float]] = {}
    waits: dict[str, list[float]] = {}
    faults = dict.fromkeys(pythons, 0)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for system in [name for name in pythons if name != OURS]:
            requests = [request_of(system, path.read_bytes()) for path in paths]
            rounds = 0
            while rounds < options.rounds:
                # One after the other, and ours again beside each of the others: two models do not fit into two cores.
                for turn in dict.fromkeys((OURS, system)):
                    own = requests if turn == system else [request_of(turn, path.read_bytes()) for path in paths]
                    with started(turn, pythons[turn], options.model) as port:
                        wait_for(port, own[0])
                        pool.submit(run_clients, port, own, options.clients, 1.5).result()
                        done = pool.submit(run_clients, port, own, options.clients, options.seconds).result()
                    seconds = max(one.end for one in done) - min(one.begin for one in done)
                    key = system if turn == system else f"{OURS} beside {system}"
                    rates.setdefault(key, []).append(sum(one.code == 200 for one in done) / seconds)
                    waits.setdefault(key, []).append(1000 * median(one.end - one.begin for one in done))
                    faults[turn] += wrong(done, found)
                    print(key, round(rates[key][-1], 2), "photos/s", faults[turn], "wrong", flush=True)
                rounds += 1
    rows: dict[str, Any] = {}
    for name, seen in rates.items():
        row: dict[str, Any] = {"photos_per_s": round(median(seen), 2), "p50_ms": round(median(waits[name]))}
        if beside := rates.get(f"{OURS} beside {name}"):
            ratios = [mine / theirs for mine, theirs in zip(beside, seen, strict=True)]
            row |= {"ours is quicker by": round(median(ratios), 2), "wrong": faults[name]}
        rows[name] = row
    return rows | {f"wrong of {OURS}": faults[OURS]}


def main() -> None:
    """Measure, or be one of the systems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--peer", action="append", default=[], metavar="SYSTEM=PYTHON")
    parser.add_argument("--model", default="coco")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--be", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        SYSTEMS[options.be](options.model, options.port)
        return
    rows = measure(options)
    for system, row in rows.items():
        print(f"{system}: {row}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
