"""Runs a service until a signal ends it: what was accepted is finished first."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from singleshot.errors import ConfigError
from singleshot.images.read import quiet_decoders
from singleshot.serving.connections import TimedConnection
from singleshot.serving.logs import LOGGER, log_event
from singleshot.serving.options import ServeOptions
from singleshot.serving.repository import Repository

_log = logging.getLogger(LOGGER)

_LINGER_S = 0.3
"""Between the signal and the end of idle connections: answers that go out meanwhile tell clients to open no other."""

_MOST_CONNECTIONS = 1000
_SWITCH_S = 0.001


def listen(options: ServeOptions) -> socket.socket:
    """A socket that listens where the options say.

    Raises:
        ConfigError: the address is taken, or not this machine's.
    """
    own: socket.socket | None = None
    try:
        family = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0][0]
        # With the protocol, or asyncio leaves Nagle's delay on: 40 ms for every answer.
        own = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind((options.host, options.port))
    except OSError as error:
        if own is not None:
            own.close()
        reason = error.strerror or str(error)
        other = "port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        raise ConfigError(f"`host={options.host}`, `port={options.port}`: {reason}: choose another `{other}`") from None
    own.listen(2048)
    own.setblocking(False)
    return own


def warn_if_open(options: ServeOptions, address: str) -> None:
    """Log that others may use the service, where that is so."""
    if not options.is_local and options.token is None:
        _log.warning("whoever reaches %s may use this service: it has no token", address)


class GracefulServer(uvicorn.Server):
    """Ends after a signal with what was accepted answered, and does not raise the signal again.

    Args:
        app: from `build_app`.
        options: of the service.
    """

    def __init__(self, app: FastAPI, options: ServeOptions) -> None:
        kind = type("Connection", (TimedConnection,), {"header_s": options.header_s})
        super().__init__(
            uvicorn.Config(
                app,
                http=kind,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_keep_alive=int(max(1, options.header_s)),
                h11_max_incomplete_event_size=2**16,
            )
        )
        self._service = app.state.service
        self.signals: list[int] = []

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; at the second Ctrl-C at once."""
        self.signals.append(sig)
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the server, and only that."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self.handle_exit) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connection, answer what came, tell clients that stay to go, then end."""
        log_event("stopping", signals=[signal.Signals(number).name for number in self.signals])
        self._service.is_draining = True
        waiting = [connection for listener in sockets or [] for connection in _accept_all(listener)]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            await loop.connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(_LINGER_S)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: asyncio.Protocol = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made


def _accept_all(listener: socket.socket) -> Iterator[socket.socket]:
    """Connections that the system took for us, and would reset when nobody listens any more."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection


def run_server(
    app: FastAPI, repository: Repository, listener: socket.socket, on_start: Callable[[str], object] | None = None
) -> bool:
    """Serve until SIGTERM or Ctrl-C, then finish what was accepted.

    Args:
        app: from `build_app`.
        repository: its models, which are closed at the end.
        listener: from `listen`.
        on_start: is told the address once requests are taken.

    Returns:
        Whether all that was accepted was finished; a second Ctrl-C waits for nothing.
    """
    options = repository.options
    server = GracefulServer(app, options)
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)  # a deadline must not wait for threads that compute
    gc.collect()
    gc.freeze()  # nor for a look through all modules and models, 0.1 s
    try:
        if options.watch is not None:
            repository.watch(options.watch)
        if on_start is not None:
            on_start(address)
        warn_if_open(options, address)
        log_event("started", address=address, models=[served.name for served in repository])
        with quiet_decoders():
            server.run(sockets=[listener])
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)
        if not server.force_exit:
            repository.close()
        log_event("stopped")
    return not server.force_exit
