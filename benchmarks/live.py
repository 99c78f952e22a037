"""Live streams on loopback: how old results become with a slow consumer, how soon a stream is back, four at once.

    python benchmarks/live.py [--seconds 300] [--restarts 20] [--rtsp PYTHON] [--json FILE]

The server sends 25 numbered pictures a second as Motion JPEG; with ``--rtsp``, a Python that has GStreamer's bindings
(`benchmarks/rtsp_server.py` says which packages), as H.264 by RTSP, and it is killed instead of closed. The slow
consumer takes three times as long for a frame as the server. Four streams run through the bundled detector in one
batch, next to one stream.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

import singleshot
from singleshot.prediction.live import LiveConfig, LiveSource
from singleshot.prediction.streams import Moving
from singleshot.prediction.viewer import PictureServer

FPS = 25


def numbered(number: int) -> NDArray[np.uint8]:
    """A picture that says its number in two bars of grey: units of 32, and the rest."""
    picture = np.zeros((240, 320, 3), dtype=np.uint8)
    picture[:120], picture[120:] = 8 * (number // 32 % 32), 8 * (number % 32)
    return picture


def number_of(picture: NDArray[np.uint8]) -> int:
    """What `numbered` wrote."""
    high, low = (round(float(picture[row, 100:200].mean()) / 8) for row in (60, 180))
    return 32 * high + low


class Camera:
    """A server that can be stopped and started at the same port.

    Attributes:
        sent: number of the newest picture.
    """

    def __init__(self, fps: float = FPS) -> None:
        self.sent, self._fps = 0, fps
        self._server: PictureServer | None = PictureServer()
        self.url = f"{self._server.url}stream"
        self._port = int(self.url.split(":")[2].split("/")[0])
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(1 / self._fps):
            server = self._server
            if server is not None:
                self.sent = (self.sent + 1) % 1024
                server.show(numbered(self.sent))

    def stop(self) -> None:
        """Close every connection, and listen no more."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def start(self) -> None:
        """Listen again."""
        self._server = PictureServer(self._port)

    def close(self) -> None:
        """End."""
        self._over.set()
        self.stop()


class RtspCamera:
    """The same by `rtsp_server.py`, in a process that is killed.

    Args:
        python: one that has GStreamer's bindings.
    """

    def __init__(self, python: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._python, self.sent = python, 0
        self.url = f"rtsp://127.0.0.1:{self._port}/camera"
        self.start()

    def start(self) -> None:
        """Listen, and count what is sent."""
        script = str(Path(__file__).with_name("rtsp_server.py"))
        self._server = subprocess.Popen(
            [self._python, script, str(self._port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._server.stdout
        if not self._server.stdout.readline():
            raise SystemExit(f"{self._python} {script} does not start: it says itself what it needs")
        threading.Thread(target=self._count, args=(self._server.stdout,), daemon=True).start()

    def _count(self, lines: IO[bytes]) -> None:
        for line in lines:
            self.sent = int(line)

    def stop(self) -> None:
        """Kill it."""
        self._server.kill()
        self._server.wait()

    close = stop


MakeCamera = Callable[[], Camera | RtspCamera]


@contextmanager
def camera(make: MakeCamera) -> Iterator[Camera | RtspCamera]:
    """A camera that ends with the block."""
    made = make()
    try:
        yield made
    finally:
        made.close()


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def slow_consumer(make: MakeCamera, seconds: float) -> dict[str, Any]:
    """Frames of age when each result is ready, in excess of those that the consumer itself let pass; memory."""
    late, memory, begin = [], [], time.monotonic()
    with camera(make) as source, LiveSource(source.url, tell=lambda line: None) as frames:
        for frame in frames:
            asked = source.sent
            time.sleep(3 / FPS)
            late.append((asked - number_of(frame.pixels)) % 1024)
            memory.append(resident_mb())
            if time.monotonic() - begin > seconds:
                break
        dropped = frames.dropped
    settled = memory[len(memory) // 10 :]
    return {
        "frames": len(late), "dropped": dropped, "frames old, median": median(late), "frames old, most": max(late[3:]),
        "memory grew MB": max(settled) - settled[0],
    }  # fmt: skip


def restarts(make: MakeCamera, count: int) -> dict[str, Any]:
    """Seconds from the server's return to the next frame."""
    waits = []
    with camera(make) as source, LiveSource(source.url, LiveConfig(), tell=lambda line: None) as frames:
        feed = iter(frames)
        for _ in range(count):
            next(feed)
            source.stop()
            time.sleep(0.5)
            before = frames.reconnections
            source.start()
            begin = time.monotonic()
            while frames.reconnections == before or next(feed) is None:
                time.sleep(0.001)
            next(feed)
            waits.append(time.monotonic() - begin)
    return {"restarts": count, "seconds to the next frame, median": median(waits), "most": max(waits)}


def side_by_side(make: MakeCamera, seconds: float) -> dict[str, Any]:
    """Frames a second of one stream and of four in sum."""
    model, rates = singleshot.load("coco"), {}
    predictor = model.predictor()
    for streams in (1, 4):
        cameras = [make() for _ in range(streams)]
        done, begin = 0, 0.0
        with Moving([own.url for own in cameras], tell=lambda line: None) as moving:
            for _ in predictor.stream(moving, streams, live=True):
                begin = begin or time.monotonic()
                done += 1
                if time.monotonic() - begin > seconds:
                    break
        for own in cameras:
            own.close()
        rates[f"{streams} at once, frames/s"] = (done - 1) / seconds
    return rates | {"share": rates["4 at once, frames/s"] / rates["1 at once, frames/s"]}


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--rtsp", metavar="PYTHON")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    def make(fps: float = FPS) -> Camera | RtspCamera:
        return RtspCamera(options.rtsp) if options.rtsp else Camera(fps)

    measured = {
        "slow consumer": slow_consumer(make, options.seconds),
        "server stopped": restarts(make, options.restarts),
        "side by side": side_by_side(lambda: make(2 * FPS), min(20.0, options.seconds)),
    }
    for name, values in measured.items():
        print(f"{name}: " + "; ".join(f"{key} {value:.4g}" for key, value in values.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
