"""How long batches take: what a queue is told, and which deadlines cannot be met."""

from __future__ import annotations

import math
import threading
from collections import deque
from time import monotonic

_REMEMBERED = 16
_FRESH_S = 10.0


class Pace:
    """Measured times of batches. From any thread.

    Args:
        at_once: images that are computed at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._last = -math.inf
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Count a batch."""
        with self._lock:
            self._seconds.append(seconds)
            self._last = monotonic()

    def expected(self, images: int) -> float:
        """Seconds until so many images are done, going by the mean of the latest batches."""
        with self._lock:
            mean = sum(self._seconds) / len(self._seconds) if self._seconds else 0.0
        return mean * math.ceil(images / self._at_once)

    def least(self, ahead: int, images: int) -> float:
        """Seconds that images take at least, going by the fastest of the latest batches.

        0 where none was measured lately: what once was slow is not refused for ever.

        Args:
            ahead: images that come before.
            images: how many there are.
        """
        with self._lock:
            if not self._seconds or monotonic() - self._last > _FRESH_S:
                return 0.0
            return min(self._seconds) * max(1, (ahead + images) // self._at_once)
