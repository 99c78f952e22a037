"""Slices over processes of this machine: one detector in each, and those that die are replaced."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from singleshot.core.wording import counted
from singleshot.errors import ConfigError, SingleshotError
from singleshot.prediction.batch.registry import BATCH_ENGINES, Crew, EngineError
from singleshot.prediction.batch.slices import Slice
from singleshot.prediction.batch.work import SliceReport, Work
from singleshot.prediction.settings import check_whole
from singleshot.runtime.base import cores
from singleshot.runtime.device import has_gpu

_QUEUED = 2
"""Slices that a worker holds: while the results of one go back, it does the next."""
_AHEAD = 4
"""Slices for each worker that may be done before their turn, and wait."""
_TRIES = 2
"""Deaths of one slice after which its images are looked at one by one, to find the one that kills."""
_MOST_DEATHS = 4
"""Deaths of one slice that no image explains: it is given up."""
_MOST_STARTS = 3
"""Deaths in a row before a worker is ready: it would never be."""


@dataclass(slots=True)
class _Task:
    """A slice on its way.

    Attributes:
        place: its number in the job.
        own: the slice.
        deaths: of workers that did it.
        skipped: its images that kill.
    """

    place: int
    own: Slice
    deaths: int = 0
    skipped: frozenset[int] = frozenset()

    @property
    def careful(self) -> bool:
        """Whether its images are looked at one by one."""
        return self.deaths >= _TRIES


@dataclass(slots=True)
class _Member:
    """A worker process and what it holds.

    Attributes:
        process: as it is now; another one after a death.
        connection: to it.
        cores: that it may use.
        tasks: that it was given, the one in work first.
        at: image of the first task that it looks at, where it says so.
        ready: whether it has its detector.
    """

    process: SpawnProcess
    connection: Connection
    cores: frozenset[int]
    tasks: deque[_Task] = field(default_factory=deque)
    at: int | None = None
    ready: bool = False

    def end(self) -> None:
        """End it at once: parts are whole or not there."""
        self.connection.close()
        self.process.kill()
        self.process.join()


class ProcessEngine:
    """Processes of this machine."""

    save = ""

    def check(self, crew: Crew) -> None:
        """Refuse an address: there is no cluster.

        Raises:
            ConfigError: there is one, or no whole number of workers.
        """
        if crew.address is not None:
            raise ConfigError("`address` is of a cluster: say `engine='ray'`, or leave it out")
        if crew.workers is not None:
            check_whole(crew.workers, "workers", most=1024)

    def ready(self, crew: Crew) -> AbstractContextManager[object]:
        """They start with the job."""
        return nullcontext()

    def run(self, work: Work, slices: Sequence[Slice], crew: Crew) -> Generator[SliceReport, None, None]:
        """What became of the slices, in their order."""
        if not slices:
            return
        on_gpu = crew.device not in ("auto", "cpu") or (crew.device == "auto" and has_gpu())
        workers = min(crew.workers or (1 if on_gpu else cores()), len(slices))
        dispatch = _Dispatch(work, slices, crew, workers)
        try:
            yield from dispatch.reports()
        finally:
            for member in dispatch.members:
                member.end()


class _Dispatch:
    """Gives slices to workers and puts what comes back in order.

    Args:
        work: for the workers.
        slices: all of them.
        crew: who is told of deaths.
        workers: how many.
    """

    def __init__(self, work: Work, slices: Sequence[Slice], crew: Crew, workers: int) -> None:
        self._work = work
        self._crew = crew
        self._fresh = (_Task(place, own) for place, own in enumerate(slices))
        self._again: deque[_Task] = deque()
        self._count = len(slices)
        self._given = self._turn = self._failed_starts = 0
        self._most_ahead = workers * (_QUEUED + _AHEAD)
        self._done: dict[int, SliceReport] = {}
        self.members: list[_Member] = []
        for number in range(workers):
            self.members.append(_start(work, _share(number, workers)))

    def reports(self) -> Iterator[SliceReport]:
        """In the order of the slices."""
        while self._turn < self._count:
            self._give()
            for connection in wait([member.connection for member in self.members]):
                self._hear(next(member for member in self.members if member.connection is connection))
            while self._turn in self._done:
                self._give()
                self._turn += 1
                yield self._done.pop(self._turn - 1)

    def _give(self) -> None:
        for _ in range(_QUEUED):
            for member in sorted(self.members, key=lambda member: len(member.tasks)):
                if len(member.tasks) < _QUEUED and (task := self._next()) is not None:
                    member.tasks.append(task)
                    try:
                        member.connection.send((task.own, task.skipped, task.careful))
                    except OSError:  # it is dead, which is noticed when it is listened to
                        continue

    def _next(self) -> _Task | None:
        if self._again:
            return self._again.popleft()
        if self._given - self._turn >= self._most_ahead:
            return None
        task = next(self._fresh, None)
        self._given += task is not None
        return task

    def _hear(self, member: _Member) -> None:
        try:
            message: Any = member.connection.recv()
        except (EOFError, OSError):
            self._replace(member)
            return
        if isinstance(message, SliceReport):
            self._done[member.tasks.popleft().place] = message
            member.at = None
        elif isinstance(message, int):
            member.at = message
        elif isinstance(message, str):
            raise EngineError(f"a worker cannot go on: {message}")
        else:
            member.ready, self._failed_starts = True, 0

    def _replace(self, member: _Member) -> None:
        """Start another process in the place of one that died; what it held is done again."""
        member.end()
        how = _worded(member.process.exitcode)
        if not member.ready:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_STARTS:
                raise EngineError(f"workers die before they have their detector ({how}): is there enough memory?")
        if member.tasks and member.ready:
            task = member.tasks[0]
            task.deaths += 1
            if member.at is not None:
                task.skipped |= {member.at}
            if task.deaths > _MOST_DEATHS + len(task.skipped):
                member.tasks.popleft()
                problem = f"{task.own.part}: every worker that does it dies ({how})"
                self._done[task.place] = SliceReport(task.own.start, problem=problem)
        again = counted(sum(len(task.own.images) for task in member.tasks), "image")
        self._crew.note(f"a worker died ({how}): another takes its place, and does {again} again")
        self._again.extendleft(reversed(member.tasks))
        new = _start(self._work, member.cores)
        self.members[self.members.index(member)] = new


def _start(work: Work, own_cores: frozenset[int]) -> _Member:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, own_cores), daemon=True, name="singleshot-worker")
    process.start()
    theirs.close()  # so that its death ends the connection
    return _Member(process, ours, own_cores)


def _share(number: int, workers: int) -> frozenset[int]:
    """Cores of one worker: each has its own as far as they go, or their threads would wait for each other."""
    if not hasattr(os, "sched_getaffinity"):
        return frozenset()
    own = sorted(os.sched_getaffinity(0))
    each = max(1, len(own) // workers)
    return frozenset(own[(number * each + more) % len(own)] for more in range(each))


def _worded(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _serve(connection: Connection, work: Work, own_cores: frozenset[int]) -> None:
    """The life of a worker: until its connection ends."""
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal; who started us ends us
    if own_cores:
        os.sched_setaffinity(0, own_cores)
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    try:
        worker = work.start()
        connection.send(None)
        while True:
            own, skipped, careful = pickle.loads(tasks.get())  # noqa: S301  who started us made it
            connection.send(worker.do(own, skipped, connection.send if careful else None))
    except ConnectionError:
        return  # nobody waits for results any more
    except Exception as error:
        told = str(error) if isinstance(error, SingleshotError) else traceback.format_exc()
        connection.send(told or repr(error))


def _receive(connection: Connection, tasks: queue.SimpleQueue[bytes]) -> None:
    """Take tasks off the connection, also while results go back, or both sides would wait for each other.

    Once nobody is at its other end, whoever that was having been killed perhaps, the process ends at once: nothing is
    written any more into a folder that another run may have by now.
    """
    try:
        while True:
            tasks.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


BATCH_ENGINES.register("processes")(ProcessEngine())
