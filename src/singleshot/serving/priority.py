"""The threads of a runtime give way to those that read requests and keep deadlines."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

_LESS = 10
"""Steps of niceness: about a tenth of the share of a thread that has work, too."""

Argument = TypeVar("Argument")
Made = TypeVar("Made")


def run_aside(make: Callable[[Argument], Made], argument: Argument) -> Made:
    """Run something in a thread of lower priority; threads that it starts keep that priority (Linux).

    A runtime starts its threads when a network is compiled or first run. They need no lock of Python's, so nobody waits
    for one while they wait for a core. Threads that do hold it must not be made to wait, or all others wait with them.

    Returns:
        What ``make`` returned.

    Raises:
        BaseException: what ``make`` raised.
    """
    done: Future[Made] = Future()

    def run() -> None:
        if sys.platform == "linux":
            with suppress(OSError):  # forbidden: then all have the same
                own = threading.get_native_id()
                os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + _LESS)
        try:
            done.set_result(make(argument))
        except BaseException as error:  # it is raised where it was asked for
            done.set_exception(error)

    threading.Thread(target=run, name="singleshot-start").start()
    return done.result()
