"""Starting one process a device, by torchrun's elastic agent."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from singleshot.core.wording import counted
from singleshot.errors import ConfigError
from singleshot.runtime.device import choose_device
from singleshot.training.job import Job, notes_of
from singleshot.training.worker_processes import usable_cores

TOLD = 2
"""What a process exits with that has told an error."""

INTERRUPTED = 128 + signal.SIGINT
"""As one process ends that was asked to, by whatever signal."""

SIGNALS = [name for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
"""Those that the agent passes on."""

AT_ONCE_S = 15
"""Processes that end later than that after the first one hung, and the agent killed them."""

LEAVE_S = 600
"""Until the agent kills processes that were asked to end: an evaluation may be under way, and all must be saved."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How processes ended.

    Attributes:
        code: 0 where all went well, else that of the process that failed first.
        reason: what happened to a process that could not say it itself; empty otherwise.
    """

    code: int
    reason: str = ""


def parse_devices(devices: int | str | Sequence[int], device: str = "auto") -> list[torch.device]:
    """The devices of a run: so many, or those with these numbers.

    Args:
        devices: ``2``, ``"2"``, ``"0,1"`` or ``(0, 1)``.
        device: their kind: ``cpu``, ``cuda``, or ``auto``: GPUs where there are some.

    Raises:
        ConfigError: they make no sense, or are not there.
    """
    numbers = _numbers(devices)
    if ":" in device:
        raise ConfigError(f"`device={device!r}` names one device; with `devices` give its kind: `device='cuda'`")
    kind = choose_device(device).type
    if kind == "cpu":
        if isinstance(numbers, list):
            raise ConfigError("`devices` names GPUs by number, but there are none here: give how many processes")
        if numbers > usable_cores():
            raise ConfigError(f"`devices={numbers}`: there are {counted(usable_cores(), 'core')} here, one a process")
        return [torch.device("cpu")] * numbers
    there = torch.cuda.device_count() if kind == "cuda" else 1
    chosen = numbers if isinstance(numbers, list) else list(range(numbers))
    if max(chosen) >= there:
        known = "0" if there == 1 else f"0 to {there - 1}"
        raise ConfigError(f"`devices={_shown(devices)}`: there {'is' if there == 1 else 'are'} {there} here: {known}")
    return [torch.device(kind, number) for number in chosen]


def rank_device(devices: int | str | Sequence[int] | None, device: str) -> torch.device:
    """The device of this process, of several on this machine.

    Raises:
        ConfigError: there are fewer devices than processes.
    """
    here, own = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), int(os.environ["LOCAL_RANK"])
    if devices is None and ":" not in device and choose_device(device).type == "cpu":
        return torch.device("cpu")  # torchrun was told how many
    chosen = parse_devices(here if devices is None else devices, device)
    if len(chosen) != here:
        raise ConfigError(f"`devices={_shown(devices)}`: torchrun has started {here} processes here: leave it out")
    if chosen[own].type == "cuda":
        torch.cuda.set_device(chosen[own])
    return chosen[own]


def launch(command: Sequence[str], processes: int, max_restarts: int) -> Ended:
    """Run ``python COMMAND`` once for each device, as ``torchrun --standalone`` does, until all have ended.

    Args:
        command: arguments of Python, ``-m`` first.
        processes: how many.
        max_restarts: how often all begin again after one of them was lost.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    arguments = run.parse_args(list(command))  # type: ignore[no-untyped-call]
    arguments.standalone, arguments.nproc_per_node, arguments.max_restarts = True, str(processes), max_restarts
    # Older versions of torch know neither of these.
    arguments.signals_to_handle = ",".join(_heard())
    arguments.shutdown_timeout = int(os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", LEAVE_S))
    with _as_it_was(), _threads(processes):
        try:
            run.run(arguments)  # type: ignore[no-untyped-call]
            return Ended(0)
        except (SignalException, KeyboardInterrupt):
            return Ended(INTERRUPTED)
        except ChildFailedError as error:
            begin = min(failure.timestamp for failure in error.failures.values())
            codes = {n: f.exitcode for n, f in error.failures.items() if f.timestamp - begin < AT_ONCE_S}
            return _failed(codes, has_told=_job(arguments).has_failed())
        finally:
            _job(arguments).forget()


def _job(arguments: Namespace) -> Job:
    return Job(notes_of(os.getpid(), str(arguments.rdzv_id)))


def _heard() -> list[str]:
    """Signals to pass on: not those that are ignored, as ``nohup`` has it."""
    return [name for name in SIGNALS if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN]


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Put back what the agent changes in this process, which may be a user's own. It is quiet: each of its processes
    says what happened to it.
    """
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed")]
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in names}  # each has one of its own
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        if threading.current_thread() is threading.main_thread():  # in another one nothing was changed, nor can be
            for name, handler in handlers.items():
                if handler is not None:  # it is not Python's
                    signal.signal(getattr(signal, name), handler)


@contextmanager
def _threads(processes: int) -> Iterator[None]:
    """Processes share the cores, unless ``OMP_NUM_THREADS`` says otherwise."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, usable_cores() // processes))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


def _failed(codes: Mapping[int, int], *, has_told: bool) -> Ended:
    """How processes failed, by rank: one told an error, or was killed; the agent ended the others (SIGTERM)."""
    if has_told:
        return Ended(TOLD)
    killed = [(rank, -code) for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    if killed:
        rank, number = killed[0]
        return Ended(1, f"the process of device {rank} was ended by {signal.Signals(number).name}; so all were stopped")
    return Ended(max(1, *codes.values()))


def own_command(words: Sequence[str] = ()) -> list[str]:
    """This command line once more, for each device."""
    return ["-m", "singleshot", *(words or sys.argv[1:])]


def _numbers(devices: int | str | Sequence[int]) -> int | list[int]:
    """How many, or which."""
    text = str(devices) if isinstance(devices, (int, str)) else ",".join(map(str, devices)) + ","
    if re.fullmatch(r"[1-9]\d{0,4}", text):
        return int(text)
    words = [word.strip() for word in text.removesuffix(",").split(",")]
    if not all(re.fullmatch(r"\d{1,4}", word) for word in words) or len(set(words)) < len(words):
        raise ConfigError(f"`devices={_shown(devices)}`: give how many, as 2, or their numbers, as 0,1")
    return [int(word) for word in words]


def _shown(devices: object) -> str:
    return str(devices) if isinstance(devices, (int, str)) else ",".join(map(str, devices))  # type: ignore[call-overload]
