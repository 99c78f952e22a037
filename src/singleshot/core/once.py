"""Things made on first demand, each once, whatever threads ask; and what a forked process must do otherwise."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_forked = False
_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
_threaded: weakref.WeakSet[object] = weakref.WeakSet()


class ForkSafeLock:
    """A lock, used by ``with``, that is free in a forked child: who held it exists only in the parent."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget who holds it."""
        self._lock = threading.RLock()


class Once:
    """Values by key. A thread that asks for one in the making waits for it; a failure is not kept.

    Different keys are made at the same time.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._made: dict[Hashable, Future[Any]] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of ``key``, by ``make`` where there is none yet; ``make`` may ask for other keys.

        Raises:
            Exception: what ``make`` raised, in every thread that waited for it.
        """
        with self._lock:
            mine = key not in self._made
            future: Future[T] = self._made.setdefault(key, Future())
        if not mine:
            return future.result()
        try:
            future.set_result(make())
        except BaseException as error:
            with self._lock:
                self._made.pop(key, None)
            future.set_exception(error if isinstance(error, Exception) else RuntimeError("interrupted"))
            raise
        return future.result()

    def forget(self, key: Hashable) -> None:
        """Make it anew when it is asked for again."""
        with self._lock:
            self._made.pop(key, None)


def is_forked() -> bool:
    """Whether this process was forked from one that had loaded this package."""
    return _forked


def needs_threads(value: object) -> None:
    """Never destroy an object in a forked child, not even at the end: it would wait for threads of the parent."""
    _threaded.add(value)


def away_from_fork(call: Callable[[], T]) -> T:
    """Run what uses OpenMP (torch, our convolutions); in a forked child, in a thread of its own.

    The thread that came through the fork believes that it still has the team of threads that its parent had, and would
    wait for them for ever. A new thread makes a team of its own.
    """
    if not _forked:
        return call()
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name="singleshot-forked")
    thread.start()
    thread.join()
    return future.result()


def _after_fork() -> None:
    global _forked
    _forked = True
    for lock in list(_locks):
        lock.renew()
    for value in list(_threaded):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    if len(_threaded):
        _end_without_destructors()


def _end_without_destructors() -> None:
    """Have this process end once Python has cleaned up: the libraries' own ends would wait for the parent's threads.

    What ``exit`` runs last registered, it runs first. (glibc only.)
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
