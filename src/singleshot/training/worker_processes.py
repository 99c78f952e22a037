"""Processes that prepare images: how many, how one starts, and what happens when one dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import cv2
from torch.utils.data._utils import signal_handling

from singleshot.errors import SingleshotError

MAX_WORKERS = 16
DEATH_IS_TOLD_S = 0.2


class WorkerError(SingleshotError, RuntimeError):
    """A process that prepares batches died, as when the system ends it for want of memory."""


@contextmanager
def explaining_workers(workers: int | Literal["auto"]) -> Iterator[None]:
    """Say what to do when a process that prepares images is killed.

    torch raises it from a signal handler, wherever the main process happens to be; or its queue ends before that.

    Raises:
        WorkerError: it was.
    """
    try:
        try:
            yield
        except (EOFError, ConnectionResetError):
            time.sleep(DEATH_IS_TOLD_S)  # the signal, which says more, may come now or never
            raise
    except (RuntimeError, EOFError, ConnectionResetError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        reason = (str(error).strip() or "it sends no more").splitlines()[0]
        raise WorkerError(
            f"a process that prepares images died ({reason}). Most often the memory is full: continue with "
            f"`resume=True` and fewer `workers` (now {auto_workers() if workers == 'auto' else workers}; 0 prepares "
            "images in the main process)"
        ) from error


def abandon_if_one_died(batches: Iterator[object]) -> None:
    """End the other workers, without torch's farewell: it waits for locks, and the dead one may have held one.

    Torch forgets them first: it would raise what we do to them, whenever the signal comes, and could not begin another
    iterator at the address of this one.
    """
    processes = getattr(batches, "_workers", ())
    if any(process.exitcode for process in processes):
        if batches._worker_pids_set:  # type: ignore[attr-defined]
            batches._worker_pids_set = False  # type: ignore[attr-defined]
            signal_handling._remove_worker_pids(id(batches))  # type: ignore[attr-defined]
        batches._shutdown = True  # type: ignore[attr-defined]
        for process in processes:
            process.kill()


def auto_workers(networks: int = 1) -> int:
    """A process for each core that is left, but one for each network that learns on this machine."""
    return max(1, min(usable_cores() // networks - 1, MAX_WORKERS))


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker(worker: int) -> None:
    """One thread each. Signals that a terminal or a service manager sends to all processes of a run (Ctrl-C, SIGTERM,
    SIGHUP) are the trainer's to handle: it needs its batches until it has saved. A second SIGTERM ends a worker.
    """
    cv2.setNumThreads(0)
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
