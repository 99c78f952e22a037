"""What fails a process from within: limits, lost rights, signals, and what others do to its files and children."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

NOBODY = 65534
# Of capabilities(7) and prctl(2).
PR_SET_KEEPCAPS, LINUX_CAPABILITY_VERSION_3, CAP_DAC_READ_SEARCH = 8, 0x20080522, 1 << 2


def limited(kind: int, amount: int) -> Callable[[], None]:
    """A limit of this process."""

    def limit() -> None:
        resource.setrlimit(kind, (amount, amount))

    return limit


def no_home() -> None:
    """As in a container that runs as a number without a name."""
    for name in ("HOME", "SINGLESHOT_CACHE", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)
    become(54321)


def nobody() -> None:
    """A user who may write nowhere."""
    become(NOBODY)


def become(user: int) -> None:
    """Another user, who may read what root may: Python itself often lies where nobody else gets to.

    Raises:
        OSError: this process may not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    kept = (ctypes.c_uint32 * 6)(CAP_DAC_READ_SEARCH, CAP_DAC_READ_SEARCH)  # effective, permitted
    if libc.capset(header, kept):
        raise OSError(ctypes.get_errno(), "capset")


def closed_pipe() -> None:
    """Nobody reads what is printed."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def full_output() -> None:
    """What is printed goes to a full disk."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def clock_jumps() -> None:
    """The wall clock goes back by a day, again and again."""
    real, count = time.time, [0]

    def jumping() -> float:
        count[0] += 1
        return real() - 86400 * (count[0] % 3)

    time.time = jumping


def sent(number: int, after_s: float) -> Callable[[], None]:
    """A signal, some time later."""

    def arrange() -> None:
        signal.signal(number, signal.SIG_DFL)
        threading.Timer(after_s, os.kill, (os.getpid(), number)).start()

    return arrange


def nothing() -> None:
    """No fault of the process."""


def little_memory(more: int) -> Callable[[], None]:
    """So many bytes of addresses beyond what the process has."""

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limited(resource.RLIMIT_AS, pages * resource.getpagesize() + more)()

    return limit


def tampered(folder: Path, opened: int) -> Callable[[], None]:
    """Someone changes a folder while it is read: when so many of its files have been opened, a third of them is
    removed, a third cut off, and a third becomes the content of another.
    """

    def arrange() -> None:
        count, root = [0], str(folder)

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            if event != "open" or not str(arguments[0]).startswith(root):
                return
            count[0] += 1
            if count[0] == opened:
                tamper(folder)

        sys.addaudithook(watch)

    return arrange


def tamper(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    Random(0).shuffle(paths)
    contents = [path.read_bytes() for path in paths]
    for number, path in enumerate(paths):
        match number % 3:
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(contents[number][: len(contents[number]) // 2])
            case 2:
                others = [k for k, other in enumerate(paths) if other.suffix == path.suffix and k != number]
                path.write_bytes(contents[others[0]] if others else b"")


def children() -> list[int]:
    """Processes that this one started."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def killed_children(after_s: float) -> Callable[[], None]:
    """The newest process that this one started is killed, some time after the first began."""

    def kill() -> None:
        while not children():
            time.sleep(0.05)
        time.sleep(after_s)
        for child in children()[-1:]:
            os.kill(child, signal.SIGKILL)

    return lambda: threading.Thread(target=kill, daemon=True).start()
