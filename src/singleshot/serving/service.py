"""What every protocol of the service calls: images and thresholds in, results in time or a problem out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any

from starlette.requests import Request

from singleshot.core.wording import counted
from singleshot.errors import ConfigError, SingleshotError
from singleshot.prediction.frames import Failure, Result
from singleshot.serving.batcher import Picture, Thresholds
from singleshot.serving.metrics import Metrics
from singleshot.serving.options import ServeOptions
from singleshot.serving.problems import Closed, DeadlineMissed, HttpProblem, QueueFull
from singleshot.serving.repository import Repository, Served

CLIENT_GONE = 499
"""What is logged of a request whose client went away; nobody reads it (nginx's number)."""

_PARSED_AT_ONCE = 2
"""Large bodies; each may take the memory of `kserve.MAX_JSON_BYTES` as Python's objects."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Results of a request.

    Attributes:
        served: the model.
        results: of each picture, in their order; at least one is no failure.
        compute_s: seconds from its place in the queue to its results.
    """

    served: Served
    results: Sequence[Result]
    compute_s: float

    @property
    def detections(self) -> int:
        """How many there are in all."""
        return sum(0 if isinstance(result, Failure) else len(result.detections) for result in self.results)


@dataclass(slots=True)
class Service:
    """The state of a service.

    Attributes:
        repository: its models.
        options: its limits.
        metrics: what is counted.
        held_bytes: of request bodies in memory.
        parsing: is held while a large body is parsed.
        is_draining: whether it takes no new connections and is about to end.
    """

    repository: Repository
    options: ServeOptions
    metrics: Metrics = field(default_factory=Metrics)
    held_bytes: int = 0
    parsing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PARSED_AT_ONCE))
    is_draining: bool = False

    def model(self, name: str | None) -> Served:
        """A model by its name.

        Raises:
            HttpProblem: 404.
        """
        try:
            return self.repository.get(name)
        except KeyError as error:
            raise HttpProblem(404, str(error.args[0])) from None

    def check_room(self, name: str | None, deadline: float) -> None:
        """Refuse a request that would be refused with its images, before its body is read.

        Raises:
            HttpProblem: 404, 503: the queue is full, 504: the deadline cannot be met.
        """
        batcher = self.model(name).batcher
        if batcher.is_full():
            raise _busy(QueueFull(batcher.pace.expected(batcher.queued)))
        if batcher.is_late(deadline):
            raise HttpProblem(504, str(DeadlineMissed()))

    async def detect(
        self,
        request: Request,
        name: str | None,
        pictures: Sequence[Picture],
        thresholds: Thresholds,
        deadline: float,
    ) -> Answer:
        """Detect in the images of one request.

        Args:
            request: whose client is watched: when it goes away, what is not computed yet never is.
            name: the model's; ``None`` is the first one.
            pictures: the images.
            thresholds: what is reported.
            deadline: by `time.monotonic`.

        Raises:
            HttpProblem: 400 (thresholds, or no image can be read), 404, 413, 503, 504, or `CLIENT_GONE`.
        """
        if len(pictures) > self.options.max_images:
            raise HttpProblem(413, f"{len(pictures)} images: a request may have {self.options.max_images}")
        start = perf_counter()
        served, future = self._submit(name, pictures, thresholds, deadline)
        results = await _in_time(future, request, deadline)
        if all(isinstance(result, Failure) for result in results):
            reasons = [str(result.error) for result in results if isinstance(result, Failure)]
            raise HttpProblem(400, reasons[0] if len(reasons) == 1 else f"none of the images can be read: {reasons[0]}")
        return Answer(served, results, perf_counter() - start)

    def _submit(
        self, name: str | None, pictures: Sequence[Picture], thresholds: Thresholds, deadline: float
    ) -> tuple[Served, Future[list[Result]]]:
        if len(pictures) > self.options.queue:
            raise HttpProblem(413, f"{counted(len(pictures), 'image')}: the queue has {self.options.queue} places")
        try:
            while True:
                served = self.model(name)
                try:
                    return served, served.batcher.submit(pictures, thresholds, deadline)
                except Closed:  # it was replaced a moment ago
                    continue
        except QueueFull as error:
            raise _busy(error) from None
        except DeadlineMissed as error:
            raise HttpProblem(504, str(error)) from None
        except ConfigError as error:
            raise HttpProblem(400, str(error)) from None

    def deadline(self, request: Request) -> float:
        """When the answer is of no use any more, by `time.monotonic`: ``X-Deadline-Ms`` from now, or the default.

        Raises:
            HttpProblem: 400: the header is no number.
        """
        text = request.headers.get("x-deadline-ms")
        seconds = self.options.deadline_s
        if text is not None:
            try:
                seconds = float(text) / 1000
            except ValueError:
                seconds = math.nan
            if not 0 <= seconds < math.inf:
                raise HttpProblem(400, "X-Deadline-Ms must be a number of milliseconds")
        return float(request.scope.get("singleshot_start", monotonic())) + min(seconds, self.options.deadline_s)


async def _in_time(future: Future[list[Result]], request: Request, deadline: float) -> list[Result]:
    """The results of a request, unless its time is over or its client goes away.

    Raises:
        HttpProblem: 504 or `CLIENT_GONE`; or what running the network raised.
    """
    found = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_disconnected(request.receive))
    try:
        waiting: set[asyncio.Future[Any]] = {found, gone}
        await asyncio.wait(waiting, timeout=max(0.0, deadline - monotonic()), return_when=asyncio.FIRST_COMPLETED)
        if found.done():
            return found.result()
        if gone.done():
            raise HttpProblem(CLIENT_GONE, "the client went away")
        raise HttpProblem(504, "the deadline passed")
    except DeadlineMissed as error:
        raise HttpProblem(504, str(error)) from None
    except ConfigError as error:  # an exported file that cannot follow these thresholds
        raise HttpProblem(400, str(error)) from None
    except SingleshotError as error:
        raise HttpProblem(500, str(error)) from error
    finally:
        future.cancel()
        found.cancel()
        gone.cancel()


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _busy(error: QueueFull) -> HttpProblem:
    return HttpProblem(503, str(error), {"Retry-After": str(max(1, math.ceil(error.retry_after)))})
