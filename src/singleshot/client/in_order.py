"""Work in threads, a bounded part of it at once, its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def in_order(work: Callable[[Item], Value], items: Iterable[Item], parallel: int) -> Iterator[Value]:
    """``work`` of each item, in their order; at most ``parallel`` items are taken ahead of the results.

    Args:
        work: called from threads; what it raises ends all.
        items: any number.
        parallel: calls at once; 1 makes no thread.
    """
    if parallel == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(parallel, "singleshot-client")
    ahead: deque[Future[Value]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) >= parallel:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
