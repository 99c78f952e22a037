"""Requests over connections that are kept, tried again where that is safe and of use. The standard library only."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from singleshot.errors import ConfigError, ServerError
from singleshot.prediction.addresses import without_password
from singleshot.version import __version__

BUSY = (429, 502, 503)
"""Answers of a service that did nothing with a request, and may do it later."""
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 60.0
"""A service that wants to be left alone for longer is not waited for."""
MAX_ANSWER_BYTES = 2**26


class Reply(NamedTuple):
    """What a service answered.

    Attributes:
        status: HTTP status.
        headers: by names in lower case.
        body: all of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Transport:
    """Connections to one service, for any number of threads.

    Attributes:
        url: of the service, ``http://HOST:PORT`` and perhaps a path.
        token: sent as ``Authorization: Bearer``; ``None`` sends none.
        timeout_s: seconds that the service may be silent.
        retries: further tries of a request that found the service busy or away.

    Raises:
        ConfigError: an address, a token or a number that makes no sense.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0
    retries: int = 4
    _parts: SplitResult = field(init=False, repr=False)
    _idle: list[http.client.HTTPConnection] = field(init=False, repr=False, default_factory=list)
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._parts = _checked(self.url)
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise ConfigError("`token` is a line of visible ASCII characters")
        if not 0 < self.timeout_s < 1e6:
            raise ConfigError(f"`timeout_s` is a number of seconds, not {self.timeout_s!r}")
        if self.retries < 0:
            raise ConfigError(f"`retries` must be at least 0, not {self.retries!r}")

    def __del__(self) -> None:
        self.close()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        retries: int | None = None,
    ) -> Reply:
        """Send a request, again where the service is busy or away, and return its answer, whatever the status.

        Args:
            method: ``GET``, ``POST``.
            path: with a query, from ``/`` on.
            body: of the request.
            headers: besides those of every request.
            retries: in place of the usual ones.

        Raises:
            ServerError: there is no answer, or one that is no HTTP or too long.
        """
        all_headers = {"User-Agent": f"singleshot/{__version__}", "Accept": "application/json", **(headers or {})}
        if self.token is not None:
            all_headers["Authorization"] = f"Bearer {self.token}"
        last = self.retries if retries is None else retries
        for attempt in range(last + 1):
            wait_s = random.uniform(0.5, 1.0) * FIRST_WAIT_S * 2**attempt
            try:
                answer = self._exchange(method, self._parts.path.rstrip("/") + path, body, all_headers)
            except (OSError, http.client.HTTPException) as error:
                if attempt == last or isinstance(error, (ServerError, TimeoutError)):
                    raise self._unreachable(error) from None
            else:
                wait_s = max(wait_s, _retry_after_s(answer.headers.get("retry-after", "")))
                if answer.status not in BUSY or attempt == last or wait_s > LONGEST_WAIT_S:
                    return answer
            time.sleep(min(wait_s, LONGEST_WAIT_S))
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Close the connections that are kept; another request opens a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _exchange(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        """One try. A kept connection that the service has closed by now costs none."""
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        if kept is not None:
            try:
                return self._ask(kept, method, target, body, headers)
            except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
                pass
        return self._ask(self._connection(), method, target, body, headers)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Reply:
        keep = False
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # a refusal may come before the body is through
                connection.request(method, target, body, dict(headers))
            response = connection.getresponse()
            data = _body_of(response)
            if data is None:
                raise ServerError(f"{self._shown}: the answer is longer than {MAX_ANSWER_BYTES:,} bytes")
            keep = not response.will_close and response.isclosed()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, data)
        finally:
            if keep:
                with self._lock:
                    self._idle.append(connection)
            else:
                connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=self.timeout_s)

    def _unreachable(self, error: Exception) -> ServerError:
        if isinstance(error, ServerError):
            return error
        if isinstance(error, TimeoutError):
            return ServerError(f"{self._shown}: no answer in {self.timeout_s:g} s: ask later, or wait longer")
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ServerError(f"{self._shown}: cannot be reached: {why}: is 'singleshot serve' running there?")

    @property
    def _shown(self) -> str:
        return without_password(self.url)


def _checked(url: str) -> SplitResult:
    """The parts of a service's address."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{without_password(url)!r} is no address of a service: such as http://127.0.0.1:8000")
    if "@" in parts.netloc:
        raise ConfigError(f"{without_password(url)}: names and passwords are not sent: give the service's token")
    return parts


def _body_of(response: http.client.HTTPResponse) -> bytes | None:
    """The body of an answer; ``None`` where it is too long."""
    if response.length is None:  # sent in chunks
        data = response.read(MAX_ANSWER_BYTES + 1)
        return data if len(data) <= MAX_ANSWER_BYTES else None
    # All of it: asked for a number of bytes, `read` would not tell that it ended too soon.
    return response.read() if response.length <= MAX_ANSWER_BYTES else None


def _retry_after_s(value: str) -> float:
    """Seconds of a ``Retry-After`` header, which may be a date; 0 without one."""
    if value.strip().isdecimal():
        return float(value[:9])
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
