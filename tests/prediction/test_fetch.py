"""Images at addresses, from a server on this machine, and on standard input."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from singleshot.errors import ImageError
from singleshot.images.read import write_image
from singleshot.prediction.fetch import fetch_image, is_address, stdin_image

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(scope="module")
def png(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_image(path, np.full((7, 9, 3), 200, np.uint8))
    return path.read_bytes()


def send(
    handler: BaseHTTPRequestHandler, body: bytes, kind: str = "image/png", code: int = 200, length: int | None = None
) -> None:
    handler.send_response(code)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def redirect(handler: BaseHTTPRequestHandler, to: str) -> None:
    handler.send_response(302)
    handler.send_header("Location", to)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


class Server:
    """Answers by path; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization")))
                answer = outer.answers.get(self.path)
                if answer:
                    answer(self)
                else:
                    self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.at = f"127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    own = Server()
    thread = threading.Thread(target=own.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield own
    own.http.shutdown()
    thread.join()
    own.http.server_close()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", False),
        ("http://h/a.jpg", True),
        ("HTTPS://h", True),
        ("http:/h", False),
        ("file:///a.jpg", False),
        ("rtsp://h", False),
        ("a.jpg", False),
    ],
)
def test_what_is_an_address(source: str, expected: bool) -> None:
    assert is_address(source) == expected


@pytest.mark.parametrize(
    ("path", "asked", "name"),
    [
        ("/a.png", "/a.png", "a.png"),
        ("/x/b%20c.png?size=1&of=%2F", "/x/b%20c.png?size=1&of=%2F", "b c.png"),
        ("/ä ö.png#part", "/%C3%A4%20%C3%B6.png", "ä ö.png"),
        ("/", "/", "127.0.0.1"),
        ("/x/..%2f..", "/x/..%2f..", "127.0.0.1"),
        ("/x/%00", "/x/%00", "127.0.0.1"),
    ],
)
def test_an_image(path: str, asked: str, name: str, server: Server, png: bytes) -> None:
    server.answers[asked] = lambda handler: send(handler, png, "application/octet-stream")
    frame = fetch_image(f"http://{server.at}{path}")
    assert frame is not None
    assert (frame.name, frame.path, frame.pixels.shape) == (name, None, (7, 9, 3))
    assert (frame.pixels == 200).all()


def test_a_large_image(server: Server, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    write_image(tmp_path / "a.png", pixels)
    data = (tmp_path / "a.png").read_bytes()
    server.answers["/a.png"] = lambda handler: send(handler, data)
    frame = fetch_image(f"http://{server.at}/a.png")
    assert frame is not None
    assert (frame.pixels == pixels).all()
    with pytest.raises(ImageError, match=r"a\.png: more than 100,000 bytes"):
        fetch_image(f"http://{server.at}/a.png", max_bytes=100_000)
    with pytest.raises(ImageError, match=r"a\.png: 300 x 300 = 90,000 pixels are over the limit of 10"):
        fetch_image(f"http://{server.at}/a.png", max_pixels=10)
    with pytest.raises(ImageError, match=r"a\.png: too slow"):
        fetch_image(f"http://{server.at}/a.png", longest_s=-1)


def test_what_is_no_image_is_left_to_others(server: Server, png: bytes) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
        handler.end_headers()

    server.answers["/list.m3u8"] = lambda handler: send(handler, b"#EXTM3U\n", "text/plain")
    server.answers["/clip"] = lambda handler: send(handler, bytes(200_000), "application/octet-stream")
    server.answers["/clip.mp4"] = lambda handler: send(handler, png, "video/mp4")
    server.answers["/camera"] = endless
    assert [fetch_image(f"http://{server.at}/{name}") for name in ("list.m3u8", "clip", "clip.mp4", "camera")] == [
        None
    ] * 4


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda handler: send(handler, b""), "the answer is empty"),
        (lambda handler: send(handler, b"\n <!DOCTYPE html><p>", "text/html"), "is a web page, not an image"),
        (lambda handler: send(handler, b"no", code=403), r"the server answers 403 \(Forbidden\)$"),
        (lambda handler: send(handler, b"\x89PNG\r\n\x1a\n"), "is damaged: the PNG does not begin with IHDR"),
        (lambda handler: send(handler, b"\x89PNG\r\n\x1a\n", length=900), "connection ended after 8 of 900 bytes"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "cannot be fetched"),
        (lambda handler: redirect(handler, "file:///etc/passwd"), "302 .*file:///etc/passwd' is not allowed"),
        (lambda handler: redirect(handler, "ftp://127.0.0.1/a"), "redirected to ftp:.*, which is not https or http"),
        (lambda handler: redirect(handler, "/a.png"), "the server answers 302 .*redirect"),
    ],
)
def test_what_goes_wrong_is_said_with_the_address_and_no_password(answer: Answer, message: str, server: Server) -> None:
    server.answers["/a.png"] = answer
    with pytest.raises(ImageError, match=message) as caught:
        fetch_image(f"http://me:secret@{server.at}/a.png")
    assert str(caught.value).startswith(f"http://***@{server.at}/a.png: ")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://me:secret@127.0.0.1:1/a.png", r"^http://\*\*\*@127\.0\.0\.1:1/a\.png: cannot be fetched: Connection"),
        ("http://me:secret@[::1/a.png", r"^http://\*\*\*: cannot be fetched"),
        ("http://me:secret@h:port/a.png", "^http://.*cannot be fetched"),
        ("http:///a.png", "an address is written http://HOST/PATH"),
        ("file:///etc/passwd", "an address is written"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        fetch_image(address)
    assert "secret" not in str(caught.value)


def test_a_silent_server_is_not_waited_for(server: Server) -> None:
    end = threading.Event()
    server.answers["/a.png"] = lambda handler: end.wait(10) and None
    try:
        with pytest.raises(ImageError, match=r"a\.png: cannot be fetched: timed out"):
            fetch_image(f"http://{server.at}/a.png", timeout_s=0.05)
    finally:
        end.set()


def test_a_password_goes_to_its_host_only(server: Server, png: bytes) -> None:
    server.answers["/a.png"] = lambda handler: redirect(handler, f"http://localhost:{server.http.server_port}/b.png")
    server.answers["/b.png"] = lambda handler: send(handler, png)
    assert fetch_image(f"http://me:s%3Acret@{server.at}/a.png") is not None
    assert server.asked == [("/a.png", f"Basic {base64.b64encode(b'me:s:cret').decode()}"), ("/b.png", None)]


def test_five_redirects(server: Server, png: bytes) -> None:
    for number in range(6):
        server.answers[f"/{number}"] = lambda handler, to=number + 1: redirect(handler, f"/{to}")  # type: ignore[misc]
    server.answers["/6"] = lambda handler: send(handler, png)
    assert fetch_image(f"http://{server.at}/1") is not None
    with pytest.raises(ImageError, match="the server answers 302"):
        fetch_image(f"http://{server.at}/0")


def test_standard_input(png: bytes) -> None:
    frame = stdin_image(io.BytesIO(png))
    assert (frame.name, frame.path, frame.pixels.shape) == ("stdin", None, (7, 9, 3))
    for data, message in (
        (b"", "standard input: is empty"),
        (b"text", "^standard input: is not an image that singleshot reads"),
        (png[:-20], "^standard input: .*cut off"),
        (png + bytes(1000), "standard input: more than 1,000 bytes"),
    ):
        with pytest.raises(ImageError, match=message):
            stdin_image(io.BytesIO(data), max_bytes=1000)
    with pytest.raises(ImageError, match="pixels are over the limit of 62"):
        stdin_image(io.BytesIO(png), max_pixels=62)


def test_a_terminal_is_no_image() -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(ImageError, match="standard input is a terminal: pipe an image into it"):
        stdin_image(Terminal())
