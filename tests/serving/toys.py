"""A detector whose network can be held up, and which counts what it is asked to compute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from singleshot.core.settings import PostprocessConfig, PreprocessConfig
from singleshot.detector import Detector
from singleshot.models.catalogue import model_spec
from singleshot.runtime.base import Backend, EngineBackend, TimedDetections
from singleshot.runtime.numpy_form import padded
from singleshot.runtime.registry import Wish
from singleshot.serving import ServeOptions, create_app
from singleshot.serving.server import GracefulServer, listen
from singleshot.serving.service import Service

NAMES = ("cup", "dog", "cat")


class ToyEngine:
    """Finds a cup, a dog and a cat in each image, with the scores v, v / 2 and v / 4 of its brightness v = 0..1."""

    name, device, parallel = "toy fp32", "cpu", 1

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.is_in = threading.Event()
        self.batches: list[list[int]] = []
        self.error: Exception | None = None

    @property
    def computed(self) -> list[int]:
        """Brightness of the images that were computed, 0..255; but for the gray one of the warm-up."""
        return [value for batch in self.batches for value in batch if value != 127]

    def predict(self, batch: np.ndarray, settings: Any) -> TimedDetections:
        values = batch.mean(axis=(1, 2, 3)).round().astype(int).tolist()
        self.is_in.set()
        assert self.go.wait(30)
        self.batches.append(values)
        if self.error is not None:
            raise self.error
        each = settings if isinstance(settings, Sequence) else [settings] * len(batch)
        return TimedDetections(padded([self._found(value, own) for value, own in zip(values, each, strict=True)]))

    def _found(self, value: int, settings: PostprocessConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scores = np.float32([value / 255, value / 510, value / 1020])
        kept = np.flatnonzero(scores > settings.score_threshold)[: settings.max_detections]
        return np.tile(np.float32([1, 1, 3, 4]), (len(kept), 1)), scores[kept], kept.astype(np.int64)

    def hold(self) -> None:
        """Let nothing more pass until ``go`` is set."""
        self.go.clear()
        self.is_in.clear()


class ToyDetector(Detector):
    """Runs a `ToyEngine`."""

    def __init__(self, engine: ToyEngine | None = None) -> None:
        spec = model_spec("ssdlite300_mobilenet_v2", NAMES)
        preprocess = PreprocessConfig(size_hw=(8, 8), mean=(0.0, 0.0, 0.0))
        super().__init__(spec.model_copy(update={"preprocess": preprocess}), {})
        self.engine = engine or ToyEngine()

    def _backend(self, wish: Wish, settings: PostprocessConfig) -> Backend:
        return EngineBackend(self.engine, settings)


def photo(value: int, size_hw: tuple[int, int] = (16, 12)) -> bytes:
    """A PNG file of one brightness, 0..255."""
    done, data = cv2.imencode(".png", np.full((*size_hw, 3), value, np.uint8))
    assert done
    return bytes(data.tobytes())


@dataclass
class Running:
    """A service in a thread of this process."""

    url: str
    port: int
    service: Service


@contextmanager
def running(models: Mapping[str, Detector], **options: Any) -> Iterator[Running]:
    """The service over a real connection, on a free port."""
    chosen = ServeOptions(port=0, **options)
    app = create_app(models, chosen)
    with listen(chosen) as listener:
        server = GracefulServer(app, chosen)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        port = listener.getsockname()[1]
        try:
            yield Running(f"http://127.0.0.1:{port}", port, app.state.service)
        finally:
            server.should_exit = True
            thread.join(30)
            app.state.service.repository.close()


def until(is_true: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.002)
