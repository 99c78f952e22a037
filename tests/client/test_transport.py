"""The client against answers of every kind: a server of the standard library plays the service."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from singleshot.client import Client, transport
from singleshot.client.calls import Wanted
from singleshot.client.in_order import in_order
from singleshot.client.transport import Transport
from singleshot.errors import ConfigError, ImageError, ServerError

ROW = {"box_xyxy": [1.5, 2, 3, 4], "score": 0.75, "class_id": 1, "class_name": "dog"}
FOUND = {
    "model": "toy",
    "class_names": ["cat", "dog"],
    "category_ids": [3, 7],
    "results": [{"name": "image", "image_size_hw": [6, 8], "detections": [ROW]}],
}
GRAY = np.full((6, 8, 3), 127, dtype=np.uint8)


@dataclass
class Played:
    """What a server answers, one after the other (the last one for ever), and what it was asked.

    An answer is a status, headers and a body; ``None`` hangs up.
    """

    answers: list[tuple[int, dict[str, str], Any] | None] = field(default_factory=lambda: [(200, {}, FOUND)])
    asked: list[Any] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    url: str = ""


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            played: Played = self.server.played  # type: ignore[attr-defined]
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            played.asked.append((self.command, self.path, dict(self.headers), body))
            played.connections.add(self.client_address)
            answer = played.answers.pop(0) if len(played.answers) > 1 else played.answers[0]
            if answer is None:
                self.close_connection = True
                return
            status, headers, content = answer
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = self.close_connection or "Content-Length" in headers

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    own = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    own.daemon_threads = True
    thread = threading.Thread(target=own.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield own
    own.shutdown()
    own.server_close()


@pytest.fixture
def played(server: Any) -> Played:
    server.played = Played(url=f"http://127.0.0.1:{server.server_address[1]}")
    return server.played


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", waited.append)
    return waited


def test_no_image_is_no_request(played: Played) -> None:
    with Client(played.url) as client:
        assert client.detect([]) == []
    assert played.asked == []


def test_an_image_goes_there_and_detections_come_back(played: Played) -> None:
    with Client(played.url + "/ssd/", token="secret") as client:
        found = client.detect(GRAY, 0.5, nms_iou=0.4, max_detections=9, classes=["dog", 0, "a,b"], model="my model")
    assert (found.names, found.category_ids, found.image_size_hw) == (["dog"], (3, 7), (6, 8))
    assert found.image is GRAY
    ((method, path, headers, body),) = played.asked
    assert (method, path.partition("?")[0]) == ("POST", "/ssd/detect")
    assert path.partition("?")[2] == (
        "model=my+model&score=0.5&nms_iou=0.4&max_detections=9&classes=dog&classes=0&classes=a%2Cb"
    )
    assert headers["Authorization"] == "Bearer secret"
    assert headers["X-Deadline-Ms"] == "28500"
    assert body.startswith(b"\x89PNG")


def test_what_is_not_said_is_the_services(played: Played) -> None:
    Client(played.url).detect(GRAY)
    assert played.asked[0][1] == "/detect?"
    assert "Authorization" not in played.asked[0][2]


def test_connections_are_kept(played: Played) -> None:
    with Client(played.url, parallel=2) as client:
        assert len(client.detect([GRAY] * 6)) == 6
        client.detect(GRAY)
    assert len(played.asked) == 7
    assert len(played.connections) <= 2


def test_a_kept_connection_that_was_closed_costs_no_try(played: Played) -> None:
    with Client(played.url, retries=0) as client:
        client.detect(GRAY)
        played.answers[:] = [None, (200, {}, FOUND)]
        assert len(client.detect(GRAY)) == 1


@pytest.mark.parametrize(
    ("headers", "least"),
    [({}, 0.05), ({"Retry-After": "7"}, 7), ({"Retry-After": "a date"}, 20)],
)
@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_service_is_asked_again_when_it_says(
    played: Played, waits: list[float], status: int, headers: dict[str, str], least: float
) -> None:
    soon = formatdate(time.time() + 50, usegmt=True)
    sent = {name: value.replace("a date", soon) for name, value in headers.items()}
    played.answers[:] = [(status, sent, {}), (200, {}, FOUND)]
    assert len(Client(played.url).detect(GRAY)) == 1
    (waited,) = waits
    assert least <= waited <= 60
    assert len(played.asked) == 2


def test_waits_grow_and_end(played: Played, waits: list[float]) -> None:
    played.answers[:] = [(503, {}, {"error": {"message": "the queue is full"}})]
    with pytest.raises(ServerError, match="the queue is full") as caught:
        Client(played.url, retries=3).detect(GRAY)
    assert caught.value.status == 503
    assert len(waits) == 3
    assert waits == sorted(waits)


def test_nobody_waits_for_hours(played: Played, waits: list[float]) -> None:
    played.answers[:] = [(503, {"Retry-After": "7200"}, {})]
    with pytest.raises(ServerError, match="answers 503"):
        Client(played.url).detect(GRAY)
    assert waits == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((400, {"X-Request-Id": "7"}, {"error": {"message": "no class\n'x'"}}), "no class"),
        ((400, {}, {"error": "KServe's way"}), "KServe's way"),
        ((401, {}, {"error": {"message": "a token is needed"}}), "needed: give the service's token"),
        ((404, {}, b"<html>"), "answers 404"),
        ((404, {}, b"[" * 100_000), "answers 404"),
        ((302, {"Location": "http://evil/\x1b[2J"}, b""), "leads on to .*: give that address"),
        ((504, {}, {"error": {"message": "the deadline passed"}}), "deadline"),
        ((200, {}, b"<html>"), "not that of 'singleshot serve'"),
        ((200, {}, b"[" * 100_000), "not that of 'singleshot serve'"),
        ((200, {}, []), "not that of 'singleshot serve'"),
        ((200, {}, FOUND | {"results": []}), "not that of 'singleshot serve'"),
        ((200, {}, FOUND | {"class_names": []}), "not that of 'singleshot serve'"),
        ((200, {}, FOUND | {"results": [{"image_size_hw": [1], "detections": []}]}), "not that of"),
        ((200, {"Content-Length": str(2**40)}, b"{"), "longer than"),
        ((200, {"Content-Length": "9"}, b"{"), "cannot be reached"),
        (None, "cannot be reached"),
    ],
)
def test_other_answers_are_errors_that_name_the_service(
    played: Played, waits: list[float], answer: Any, said: str
) -> None:
    played.answers[:] = [answer]
    with pytest.raises(ServerError, match=said) as caught:
        Client(played.url, retries=1).detect(GRAY)
    assert played.url in str(caught.value)
    assert caught.value.status == (answer[0] if answer and answer[0] != 200 else None)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(played.asked) <= 2


def test_an_answer_that_does_not_come_is_not_waited_for_twice(waits: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)
        with pytest.raises(ServerError, match=r"no answer in 0\.05 s"):
            client.detect(GRAY)
    assert waits == []


def test_no_class_is_not_every_class() -> None:
    assert Wanted(classes=[]).query == "classes="


def test_nobody_there(waits: list[float]) -> None:
    client = Client("http://127.0.0.1:1", retries=2)
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:1: cannot be reached: .*is 'singleshot serve' running"):
        client.models()
    assert len(waits) == 2
    assert not client.ready()
    assert len(waits) == 2


@pytest.mark.parametrize(("status", "expected"), [(200, True), (503, False), (404, False)])
def test_ready(played: Played, status: int, expected: bool) -> None:
    played.answers[:] = [(status, {}, {})]
    assert Client(played.url).ready("a/b") is expected
    assert [asked[1] for asked in played.asked] == ["/v2/models/a%2Fb/ready"]


def test_models(played: Played) -> None:
    entry = {"name": "toy", "class_names": ["cat"], "category_ids": [], "size_hw": [96, 128], "score": 0.3}
    played.answers[:] = [(200, {}, {"models": [entry]})]
    (model,) = Client(played.url).models()
    assert (model.name, model.class_names, model.size_hw, model.score) == ("toy", ("cat",), (96, 128), 0.3)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "http://host:x",
        "http://host/?a=1",
        "http://a b",
        "http://h\r\nX: 1",
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="no address of a service"):
        Client(url)


def test_what_else_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match=r"http://\*\*\*@host: names and passwords"):
        Client("http://me:secret@host")
    for token in ("", "a\nb", "é"):
        with pytest.raises(ConfigError, match="`token`"):
            Client("http://host", token)
    with pytest.raises(ConfigError, match="`timeout_s`"):
        Client("http://host", timeout_s=0)
    with pytest.raises(ConfigError, match="`retries`"):
        Client("http://host", retries=-1)
    with pytest.raises(ConfigError, match="`score` must lie"):
        Client("http://host").detect(GRAY, 50)
    with pytest.raises(ImageError, match="no such file"):
        Client("http://host").detect("nowhere.jpg")
    assert "secret" not in repr(Transport("http://host", "secret"))


@pytest.mark.parametrize("parallel", [1, 3])
def test_work_is_in_order_and_bounded(parallel: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    assert list(in_order(work, [], parallel)) == []
    for number in in_order(work, items(), parallel):
        assert number == taken[number]
        assert len(taken) <= number + parallel
