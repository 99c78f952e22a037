"""Connections that end when they take too long to say what they want (slow-loris) or have nothing to say."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_MOST_WAITS = 6
"""Of ``header_s`` each, for a client that still reads its answer."""


class TimedConnection(H11Protocol):
    """Closes when no request's header has come whole ``header_s`` seconds after it opened or gave its last answer.

    What a client goes on sending of a body that was refused counts as nothing said.
    """

    header_s = 10.0
    _timer: asyncio.TimerHandle | None = None
    _unread = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to count."""
        super().connection_made(transport)
        self._count()

    def connection_lost(self, error: Exception | None) -> None:
        """Count no more."""
        self._stop()
        super().connection_lost(error)

    def handle_events(self) -> None:
        """Count no more once a header is whole."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop()

    def on_response_complete(self) -> None:
        """Count anew, unless the next request is there already."""
        before = self.cycle
        self._count()
        super().on_response_complete()
        if self.cycle is not before:
            self._stop()

    def _count(self, waits: int = _MOST_WAITS) -> None:
        self._stop()
        self._unread = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(self.header_s, self._expire, waits)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, waits: int) -> None:
        """End, unless the client still reads its answer, over a slow line perhaps."""
        if waits and 0 < self.transport.get_write_buffer_size() < self._unread:
            self._count(waits - 1)
        elif self._unread or not self.transport.is_closing():
            self.transport.abort()
