"""Images of many requests, computed together: a bounded queue, exact deadlines, nothing computed for nobody.

Decoders take pictures from the queue, a bounded number ahead of the networks; these take what is ready, as many at once
as they may. Scores, NMS and classes are each request's own: the network runs once for all of a batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from typing import Any

import numpy as np

from singleshot.core.memory import keep_freed_memory
from singleshot.detector import Detector
from singleshot.errors import ImageError
from singleshot.prediction.frames import Encoded, Failure, Frame, Result
from singleshot.prediction.pipeline import Batch, Predictor
from singleshot.runtime.base import EngineBackend, cores, predict_each
from singleshot.runtime.choose import COMPILE_FROM
from singleshot.serving.options import ServeOptions
from singleshot.serving.pace import Pace
from singleshot.serving.priority import run_aside
from singleshot.serving.problems import Closed, DeadlineMissed, QueueFull

Picture = Encoded | Frame | Failure
"""An upload, an array, or what was refused before it came here."""

_KEPT_MEMORY = 2**24
"""Bytes of freed memory that each thread keeps for the next photo (see `Predictor`)."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a request may ask for.

    Attributes:
        score: least confidence; the service's default, else the model's own.
        nms_iou: overlap above which the weaker of two boxes goes; the model's own by default.
        classes: names or ids that are reported; ``None`` reports all.
        max_detections: most objects of an image; the model's own by default.
        clip: whether boxes end at the picture.
    """

    score: float | None = None
    nms_iou: float | None = None
    classes: tuple[str | int, ...] | None = None
    max_detections: int | None = None
    clip: bool = True


@dataclass(eq=False, slots=True)
class _Request:
    future: Future[list[Result]]
    deadline: float
    results: list[Any]
    left: int

    @property
    def is_over(self) -> bool:
        return self.future.done()


@dataclass(eq=False, slots=True)
class _Item:
    """One image on its way."""

    request: _Request
    place: int
    picture: Picture
    predictor: Predictor
    frame: Frame | None = None
    input: Batch = field(default_factory=list)


class Batcher:
    """Runs one detector for many requests; from any thread.

    Args:
        detector: what runs.
        options: limits, and what runs it.
        on_batch: is told how many images each batch has.

    Raises:
        ConfigError, MissingExtraError, WeightsError: the detector cannot run so.
    """

    def __init__(
        self, detector: Detector, options: ServeOptions | None = None, on_batch: Callable[[int], object] | None = None
    ) -> None:
        self.detector = detector
        self._options = options or ServeOptions()
        self._on_batch = on_batch or (lambda count: None)
        self.predictor = lru_cache(maxsize=256)(self._predictor)
        self.usual = usual = self.predictor(Thresholds())
        self.parallel = usual.parallel
        device = getattr(usual.backend, "device", "cpu")
        self.batch_size = self._options.batch_size or (1 if device == "cpu" else 8)
        self.backend_name = usual.backend.name
        self.pace = Pace(self.parallel * self.batch_size)
        keep_freed_memory(_KEPT_MEMORY)
        self._change = threading.Condition()
        self._waiting: deque[_Item] = deque()
        self._ready: deque[_Item] = deque()
        self._preparing = self._running = 0
        self._is_closed = False
        run_aside(self._warm_up, usual)
        names = ["decode"] * min(cores(), self.parallel * self.batch_size + 1) + ["network"] * self.parallel
        loops = {"decode": self._decode, "network": self._compute}
        self._threads = [
            threading.Thread(target=loops[name], name=f"singleshot-{name}-{number}", daemon=True)
            for number, name in enumerate(names)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, pictures: Sequence[Picture], thresholds: Thresholds | None = None, deadline: float | None = None
    ) -> Future[list[Result]]:
        """Queue the images of one request. Cancelling the future takes out what is not computed yet.

        Args:
            pictures: the images.
            thresholds: what is reported.
            deadline: when the answer is of no use any more, by `time.monotonic`.

        Returns:
            Will hold a result for each picture, in their order; or `DeadlineMissed`.

        Raises:
            QueueFull: there is no place for all of them.
            DeadlineMissed: it has passed, or cannot be met.
            Closed: `close` was called.
            ConfigError: thresholds that make no sense.
        """
        predictor = self.predictor(thresholds or Thresholds())
        end = monotonic() + self._options.deadline_s if deadline is None else deadline
        request = _Request(Future(), end, list(pictures), 0)
        items = [
            _Item(request, place, picture, predictor)
            for place, picture in enumerate(pictures)
            if not isinstance(picture, Failure)
        ]
        request.left = len(items)
        with self._change:
            if self._is_closed:
                raise Closed
            if monotonic() >= end:
                raise DeadlineMissed
            if not items:
                request.future.set_result(request.results)
                return request.future
            if self.queued + len(items) > self._options.queue:
                self._drop_what_is_over()
            if self.queued + len(items) > self._options.queue:
                raise QueueFull(self.pace.expected(self.queued + self._running))
            if self.is_late(end, len(items)):
                raise DeadlineMissed
            self._waiting += items
            self._change.notify_all()
        request.future.add_done_callback(self._forget)
        return request.future

    @property
    def score(self) -> float:
        """Least confidence of what is reported, where a request does not say."""
        backend = self.usual.backend
        return (
            backend.settings.score_threshold if isinstance(backend, EngineBackend) else self.detector.spec.default_score
        )

    @property
    def queued(self) -> int:
        """Images that are accepted and not computed yet."""
        return len(self._waiting) + self._preparing + len(self._ready)

    def is_full(self) -> bool:
        """Whether not one more image has a place."""
        with self._change:
            if self.queued >= self._options.queue:
                self._drop_what_is_over()
            return self.queued >= self._options.queue

    def is_late(self, deadline: float, images: int = 1) -> bool:
        """Whether so many images more cannot be done by then."""
        return monotonic() + self.pace.least(self.queued + self._running, images) > deadline

    def close(self, timeout: float | None = None) -> None:
        """Take nothing more, finish what was accepted, and end the threads.

        Args:
            timeout: seconds to wait for that; ``None`` waits as long as it takes.
        """
        with self._change:
            self._is_closed = True
            self._change.notify_all()
        end = None if timeout is None else monotonic() + timeout
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(None if end is None else max(0.0, end - monotonic()))

    def _predictor(self, thresholds: Thresholds) -> Predictor:
        options = self._options
        score = options.score if thresholds.score is None else thresholds.score
        asked: dict[str, Any] = {} if score is None else {"score": score}  # without: the model's own
        return self.detector.predictor(
            **asked,
            nms_iou=thresholds.nms_iou,
            classes=thresholds.classes,
            max_detections=thresholds.max_detections,
            clip=thresholds.clip,
            max_pixels=options.max_pixels,
            backend=options.backend,
            precision=options.precision,
            device=options.device,
            images=COMPILE_FROM,
        )

    def _warm_up(self, predictor: Predictor) -> None:
        """Run once, so that the first request waits for no compilation, and the time of a batch is known."""
        gray = np.full((*predictor.preprocess.size_hw, 3), 127, dtype=np.uint8)
        for size in {self.batch_size, 1}:
            batch = predictor.input_of([gray] * size)
            predictor.detect(batch)
            start = monotonic()
            predictor.detect(batch)
            self.pace.add(monotonic() - start)

    # Decoders.

    def _decode(self) -> None:
        while (item := self._next_to_decode()) is not None:
            frame = item.predictor.load(item.picture, item.place)
            if isinstance(frame, Frame):
                try:
                    item.input = item.predictor.input_of([frame.pixels])
                except Exception as error:  # it belongs to this image
                    frame = Failure(None, ImageError(f"cannot be resized: {type(error).__name__}: {error}"))
            with self._change:
                self._preparing -= 1
                if isinstance(frame, Failure):
                    self._put(item, frame)
                elif not item.request.is_over:  # it may have been cancelled meanwhile
                    item.frame = frame
                    self._ready.append(item)
                self._change.notify_all()

    def _next_to_decode(self) -> _Item | None:
        """The next picture, once there is room for another decoded one; ``None`` at the end."""
        ahead = (self.parallel + 1) * self.batch_size
        with self._change:
            while True:
                while self._waiting and self._preparing + len(self._ready) < ahead:
                    item = self._waiting.popleft()
                    if self._is_wanted(item):
                        self._preparing += 1
                        return item
                if self._is_closed and not self._waiting:
                    return None
                self._change.wait()

    # Networks.

    def _compute(self) -> None:
        while batch := self._next_batch():
            start = monotonic()
            try:
                results = self._detect(batch)
            except Exception as error:  # what a runtime raises is each request's answer, and the service goes on
                with self._change:
                    self._running -= len(batch)
                    for item in batch:
                        self._fail(item.request, error)
                continue
            self.pace.add(monotonic() - start)
            self._on_batch(len(batch))
            with self._change:
                self._running -= len(batch)
                for item, result in zip(batch, results, strict=True):
                    self._put(item, result)

    def _next_batch(self) -> list[_Item]:
        """What is ready, as much as the network sees at once; nothing at the end."""
        with self._change:
            while True:
                batch: list[_Item] = []
                while self._ready and len(batch) < self.batch_size:
                    item = self._ready.popleft()
                    if self._is_wanted(item):
                        batch.append(item)
                if batch:
                    self._running += len(batch)
                    self._change.notify_all()
                    return batch
                if self._is_closed and not self.queued:
                    self._change.notify_all()
                    return []
                self._change.wait()

    def _detect(self, batch: Sequence[_Item]) -> list[Result]:
        inputs: Any = [row for item in batch for row in item.input]
        if isinstance(batch[0].input, np.ndarray):
            inputs = batch[0].input if len(batch) == 1 else np.stack(inputs)
        found = predict_each([item.predictor.backend for item in batch], inputs).found
        return [
            item.predictor.finish(found, row, item.frame) for row, item in enumerate(batch) if item.frame is not None
        ]

    # Requests; all under the lock.

    def _is_wanted(self, item: _Item) -> bool:
        """Whether it is to be computed; a request whose deadline cannot be met is over."""
        if item.request.is_over:
            return False
        if monotonic() + self.pace.least(0, 1) > item.request.deadline:
            self._fail(item.request, DeadlineMissed())
            return False
        return True

    def _forget(self, future: Future[list[Result]]) -> None:
        """Give back the memory of images that nobody waits for any more."""
        if future.cancelled():
            with self._change:
                self._drop_what_is_over()
                self._change.notify_all()

    def _drop_what_is_over(self) -> None:
        self._waiting = deque(item for item in self._waiting if not item.request.is_over)
        self._ready = deque(item for item in self._ready if not item.request.is_over)

    def _put(self, item: _Item, result: Result) -> None:
        request = item.request
        request.results[item.place] = result
        request.left -= 1
        if not request.left and not request.is_over and request.future.set_running_or_notify_cancel():
            request.future.set_result(request.results)

    def _fail(self, request: _Request, error: Exception) -> None:
        if not request.is_over and request.future.set_running_or_notify_cancel():
            request.future.set_exception(error)
