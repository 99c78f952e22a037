"""SIGTERM ends a command as Ctrl-C does: what is open is closed, temporary files go, results stay."""

from __future__ import annotations

import signal


class Terminated(KeyboardInterrupt):
    """SIGTERM, as from ``kill``, ``timeout``, a batch system or the end of a container."""


def end_like_ctrl_c() -> None:
    """From now on SIGTERM raises `Terminated` in the main thread."""
    signal.signal(signal.SIGTERM, _terminate)


def interrupt_code(error: KeyboardInterrupt) -> int:
    """What shells report of a command that a signal ended: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def _terminate(number: int, frame: object) -> None:
    raise Terminated
