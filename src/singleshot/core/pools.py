"""Work handed to a pool as it is wanted: a list of a million tasks never waits in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def ordered_map(pool: Executor, call: Callable[[S], T], items: Iterable[S], ahead: int) -> Iterator[T]:
    """``map`` by a pool, results in the order of the items; only so many are handed out ahead.

    Left early, what has not begun is cancelled.
    """
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
