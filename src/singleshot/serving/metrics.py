"""What Prometheus reads of a service, in its text format 0.0.4."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Histogram:
    """Counts by bound, the last one's is infinite."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def add(self, value: float) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: Labels) -> Iterable[str]:
        below = 0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            below += count
            edge = "+Inf" if bound == math.inf else f"{bound:g}"
            yield f"{name}_bucket{_braces((*labels, ('le', edge)))} {below}"
        yield f"{name}_sum{_braces(labels)} {self.total:.6f}"
        yield f"{name}_count{_braces(labels)} {below}"


class Metrics:
    """Counters of a service. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[Labels, int] = {}
        self._seconds: dict[Labels, _Histogram] = {}
        self._batches: dict[Labels, _Histogram] = {}
        self._images: dict[Labels, int] = {}

    def count_request(self, route: str, code: int, seconds: float) -> None:
        """Count a request that was answered, or whose client went away.

        Args:
            route: the pattern of its path: there are few of these.
            code: the HTTP status.
            seconds: from its header to its answer.
        """
        with self._lock:
            labels = (("route", route), ("code", str(code)))
            self._requests[labels] = self._requests.get(labels, 0) + 1
            self._seconds.setdefault((("route", route),), _Histogram(SECONDS)).add(seconds)

    def count_batch(self, model: str, images: int) -> None:
        """Count a batch that was computed."""
        with self._lock:
            labels = (("model", model),)
            self._batches.setdefault(labels, _Histogram(IMAGES)).add(images)
            self._images[labels] = self._images.get(labels, 0) + images

    def text(self, gauges: Mapping[str, tuple[str, Mapping[Labels, float]]]) -> str:
        """All of it.

        Args:
            gauges: what is true now: name -> (help, value by labels).
        """
        with self._lock:
            lines = [
                *_plain("singleshot_requests_total", "counter", "Requests by route and code.", self._requests),
                *_plain("singleshot_images_total", "counter", "Images that were computed.", self._images),
                *_spread("singleshot_request_seconds", "From a request's header to its answer.", self._seconds),
                *_spread("singleshot_batch_images", "Images that the network saw at once.", self._batches),
            ]
        for name, (explained, values) in gauges.items():
            lines += _plain(name, "gauge", explained, values)
        return "\n".join(lines) + "\n"


def _plain(name: str, kind: str, explained: str, values: Mapping[Labels, float]) -> list[str]:
    head = [f"# HELP {name} {explained}", f"# TYPE {name} {kind}"]
    return head + [f"{name}{_braces(labels)} {value:.17g}" for labels, value in values.items()]


def _spread(name: str, explained: str, values: Mapping[Labels, _Histogram]) -> list[str]:
    head = [f"# HELP {name} {explained}", f"# TYPE {name} histogram"]
    return head + [line for labels, histogram in values.items() for line in histogram.lines(name, labels)]


def _braces(labels: Labels) -> str:
    told = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels)
    return f"{{{told}}}" if told else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
