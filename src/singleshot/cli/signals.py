"""SIGTERM and SIGHUP end a command as Ctrl-C does: what is open is closed, temporary files go, results stay."""

from __future__ import annotations

import signal

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""As from ``kill``, ``timeout``, a batch system or the end of a container, and from a terminal that is closed."""


class Terminated(KeyboardInterrupt):
    """One of `ENDING`.

    Attributes:
        number: which.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


def end_like_ctrl_c() -> None:
    """From now on these signals raise `Terminated` in the main thread; one that is ignored (``nohup``) stays so."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)


def interrupt_code(error: KeyboardInterrupt) -> int:
    """What shells report of a command that a signal ended: 128 and the signal's number."""
    return 128 + (error.number if isinstance(error, Terminated) else signal.SIGINT)


def _terminate(number: int, frame: object) -> None:
    raise Terminated(number)
