"""Many HTTP clients in one thread, so that what they measure is the service and not Python's lock in the clients.

Each client has a connection of its own and sends one request after the other. Nothing is parsed while the clock runs
but the head of an answer: bodies are kept and compared later.
"""

from __future__ import annotations

import heapq
import random
import selectors
import socket
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import NamedTuple

_PAUSE_S = 0.05
"""Before the next request of a client that was refused (503)."""

_PATIENCE_S = 120.0


class Exchange(NamedTuple):
    """A request and its answer.

    Attributes:
        request: its number among those that were given.
        begin, end: when it was begun, and when its answer had come whole, by `time.monotonic`.
        code: the HTTP status; 0 where the connection ended without an answer.
        body: of the answer.
    """

    request: int
    begin: float
    end: float
    code: int
    body: bytes


def post(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A request as it goes over the line."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode() + body


class _Client:
    """A connection and what is on it."""

    def __init__(self, address: tuple[str, int], at: int) -> None:
        self.address, self.at = address, at
        self.socket: socket.socket | None = None
        self.unsent = memoryview(b"")
        self.came = bytearray()
        self.request, self.begin = 0, 0.0

    def start(self, selector: selectors.BaseSelector, requests: Sequence[bytes], begin: float) -> None:
        """Send the next request."""
        if self.socket is None:
            self.socket = socket.create_connection(self.address)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.setblocking(False)
            selector.register(self.socket, selectors.EVENT_READ, self)
        self.request, self.begin = self.at % len(requests), begin
        self.at += 1
        self.unsent, self.came = memoryview(requests[self.request]), bytearray()
        self.send(selector)

    def send(self, selector: selectors.BaseSelector) -> None:
        """Send as much as fits."""
        assert self.socket is not None
        while self.unsent:
            try:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
            except BlockingIOError:
                break
            except OSError:  # it may have answered and closed: that is read next
                self.unsent = memoryview(b"")
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)
        selector.modify(self.socket, wanted, self)

    def receive(self, selector: selectors.BaseSelector) -> Exchange | None:
        """What came, if that is the whole answer or the end of the connection."""
        assert self.socket is not None
        try:
            data = self.socket.recv(2**18)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        self.came += data
        code, body, closes = _parsed(self.came)
        if data and body is None:
            return None
        if not data or closes or self.unsent:
            selector.unregister(self.socket)
            self.socket.close()
            self.socket = None
        return Exchange(self.request, self.begin, monotonic(), code if body is not None else 0, body or b"")


def _parsed(came: bytearray) -> tuple[int, bytes | None, bool]:
    """Status, body (``None``: not whole yet) and whether the connection ends with it."""
    head, gap, rest = bytes(came).partition(b"\r\n\r\n")
    if not gap:
        return 0, None, False
    lines = head.lower().split(b"\r\n")
    fields = dict(line.split(b":", 1) for line in lines[1:])
    closes = fields.get(b"connection", b"").strip() == b"close"
    code = int(lines[0].split()[1])
    if b"content-length" not in fields:  # chunked
        whole = rest.endswith(b"0\r\n\r\n")
        return code, _unchunked(rest) if whole else None, closes
    return code, rest if len(rest) >= int(fields[b"content-length"]) else None, closes


def _unchunked(rest: bytes) -> bytes:
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def run_clients(
    port: int,
    requests: Sequence[bytes],
    clients: int,
    seconds: float,
    per_second: float | None = None,
    until_refused: bool = False,
    even: bool = False,
) -> list[Exchange]:
    """Put a service under load.

    Args:
        port: on 127.0.0.1.
        requests: from `post`; client k begins with the 7 k-th.
        clients: how many there are.
        seconds: no request begins later; what has begun is waited for.
        per_second: requests of all together at times that chance chooses (exponential gaps), each begun when it is its
            turn, or as soon as a client is free: then its time counts from its turn. Without it each client sends its
            next request when it has its answer.
        until_refused: a client that finds nobody ends there.
        even: gaps between the requests of ``per_second`` are all the same, as load generators have them that keep a
            rate.

    Returns:
        What was asked and answered, in the order of the answers.
    """
    selector = selectors.DefaultSelector()
    begin, chance = monotonic(), random.Random(1)
    free = [_Client(("127.0.0.1", port), number * 7) for number in range(clients)]
    due = [(begin, number) for number in range(clients)] if per_second is None else []
    owners = dict(enumerate(free))
    numbers = {id(client): number for number, client in owners.items()}
    turn = begin
    exchanges: list[Exchange] = []
    busy = 0
    while True:
        now = monotonic()
        if per_second is None:
            while due and due[0][0] <= now < begin + seconds:
                try:
                    owners[heapq.heappop(due)[1]].start(selector, requests, monotonic())
                except ConnectionRefusedError:
                    if not until_refused:
                        raise
                    continue
                busy += 1
            wait = due[0][0] - now if due else _PATIENCE_S
        else:
            while turn <= now and turn < begin + seconds and free:
                free.pop(0).start(selector, requests, turn)
                busy += 1
                turn += 1 / per_second if even else chance.expovariate(per_second)
            wait = turn - now if free else _PATIENCE_S
        if now >= begin + seconds and not busy:
            return exchanges
        for key, events in selector.select(max(0.0, min(wait, begin + seconds - now) if now < begin + seconds else 1)):
            client: _Client = key.data
            if events & selectors.EVENT_WRITE:
                client.send(selector)
            if not events & selectors.EVENT_READ or (done := client.receive(selector)) is None:
                continue
            exchanges.append(done)
            busy -= 1
            if per_second is None:
                pause = _PAUSE_S if done.code in (0, 503) else 0.0
                heapq.heappush(due, (done.end + pause, numbers[id(client)]))
            else:
                free.append(client)
