"""What nobody should send, to a service that runs: refused in bounded time and memory, while others are served."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from serving.toys import Running, ToyDetector, photo, running

MAX_BYTES = 2**20
HEADER_S = 0.5


@pytest.fixture(scope="module")
def live() -> Iterator[Running]:
    with running({"toy": ToyDetector()}, max_bytes=MAX_BYTES, max_pixels=10**6, header_s=HEADER_S) as service:
        yield service


@pytest.fixture(autouse=True)
def _nothing_is_left(live: Running) -> Iterator[None]:
    """Every test ends with a service that answers, and holds nothing."""
    yield
    assert httpx.post(f"{live.url}/detect", content=photo(200), timeout=20).status_code == 200
    assert live.service.held_bytes == 0
    assert all(served.batcher.queued == 0 for served in live.service.repository)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, packed: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def jpeg_head(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"\1\x22\0\2\x11\1\3\x11\1"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


def bomb() -> bytes:
    """100 MB of zeros in 100 kB, in a picture that says it has 10 x 10 pixels."""
    packer, zeros = zlib.compressobj(9), bytes(2**20)
    return png(10, 10, b"".join(packer.compress(zeros) for _ in range(100)) + packer.flush())


PICTURES = {
    "nothing like an image": b"GIF87b" + bytes(100),
    "cut off": photo(200)[:-30],
    "100 megapixels, JPEG": jpeg_head(10_000, 10_000),
    "900 megapixels, PNG": png(30_000, 30_000, zlib.compress(bytes(10))),
    "4 gigapixels": jpeg_head(65_535, 65_535),
    "no pixels": png(0, 10, zlib.compress(b"")),
    "pixels that are missing": png(1000, 1000, zlib.compress(bytes(10))),
}


def peak_bytes() -> int:
    """The most memory since `forget_peak`; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def forget_peak() -> None:
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def kserve(data: bytes) -> tuple[bytes, dict[str, str]]:
    raw = struct.pack("<I", len(data)) + data
    tensor = {"name": "file", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_are_none(live: Running, name: str) -> None:
    data = PICTURES[name]
    assert len(data) < MAX_BYTES
    forget_peak()
    before = peak_bytes()
    body, headers = kserve(data)
    first = httpx.post(f"{live.url}/detect", content=data, timeout=20)
    second = httpx.post(f"{live.url}/v2/models/toy/infer", content=body, headers=headers, timeout=20)
    assert (first.status_code, second.status_code) == (400, 400), (first.text, second.text)
    assert peak_bytes() - before < 2**26


def test_a_bomb_is_unpacked_no_further_than_its_picture(live: Running) -> None:
    forget_peak()
    before = peak_bytes()
    assert httpx.post(f"{live.url}/detect", content=bomb(), timeout=20).status_code in (200, 400)
    assert peak_bytes() - before < 2**26


def test_a_bad_picture_spoils_no_other(live: Running) -> None:
    files = [("a", ("cut.png", PICTURES["cut off"])), ("b", ("good.png", photo(200)))]
    results = httpx.post(f"{live.url}/detect", files=files, timeout=20).json()["results"]
    assert "error" in results[0]
    assert len(results[1]["detections"]) == 2


@pytest.mark.parametrize("path", ["/detect", "/v2/models/toy/infer"])
@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Length": str(MAX_BYTES + 1)}, b"", 413),
        ({"Content-Length": str(10**18)}, b"", 413),
        ({"Transfer-Encoding": "chunked"}, b"100001\r\n" + bytes(MAX_BYTES + 1) + b"\r\n0\r\n\r\n", 413),
        ({"Content-Encoding": "gzip", "Content-Length": "9"}, b"", 415),
        ({"Content-Length": "-1"}, b"", 400),
        ({"Content-Length": "1, 2"}, b"", 400),
        ({"Transfer-Encoding": "chunked"}, b"zz\r\n", 400),
        ({"Content-Length": "10", "X-Deadline-Ms": "200"}, b"half", 504),
        ({"Content-Length": "10", "X-Deadline-Ms": "NaN"}, b"half", 400),
        ({"X-Long": "x" * 100_000}, b"", 400),
    ],
)
def test_bodies_that_are_none(live: Running, path: str, headers: dict[str, str], body: bytes, status: int) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    start = monotonic()
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may be refused before all of it was sent
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode() + body)
        answer = connection.recv(100)
    assert answer.split()[1] == str(status).encode()
    assert monotonic() - start < 10


DOCUMENTS = [b"[" * 50_000, b'{"images": [' + b"[" * 50_000, b'{"images": ["' + b"A" * 9000, b"9" * 9000, b"\xff\xfe{}"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
@pytest.mark.parametrize("path", ["/detect", "/v2/models/toy/infer"])
def test_json_that_is_none(live: Running, path: str, document: bytes) -> None:
    answer = httpx.post(live.url + path, content=document, headers={"Content-Type": "application/json"}, timeout=20)
    assert (answer.status_code, "error" in answer.json()) == (400, True)


def test_no_compressed_body_is_unpacked(live: Running) -> None:
    body = gzip.compress(bytes(2**26))
    answer = httpx.post(f"{live.url}/detect", content=body, headers={"Content-Encoding": "gzip"}, timeout=20)
    assert answer.status_code == 415


def test_who_says_nothing_is_sent_away_while_others_are_served(live: Running) -> None:
    sent = [b"", b"P", b"POST /detect HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n"]
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", live.port), timeout=20)) for _ in range(60)]
        for number, connection in enumerate(slow):
            connection.sendall(sent[number % len(sent)])
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: httpx.post(f"{live.url}/detect", content=photo(200)), range(8)))
        assert {answer.status_code for answer in answers} == {200}
        start = monotonic()
        assert {_ending(connection) for connection in slow} == {b""}
        assert monotonic() - start < 10


def _ending(connection: socket.socket) -> bytes:
    """The last of what a connection brings."""
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\0\x01\xfc", bytes(1000) + b"\r\n\r\n", b"GET\r\n\r\n"])
def test_garbage_is_no_http(live: Running, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        connection.sendall(garbage)
        assert _ending(connection) in (b"", b"H")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "["])
def test_names_of_other_sites_lead_nowhere(live: Running, host: str) -> None:
    assert httpx.get(f"{live.url}/models", headers={"Host": host}).status_code == 421


def test_names_of_files_are_text(live: Running) -> None:
    names = ["../../etc/passwd", "<script>alert(1)</script>.png", "a\u202eb.png", "x" * 1000]
    files: list[Any] = [("f", (name, photo(200))) for name in names]
    answer = httpx.post(f"{live.url}/detect", files=files, timeout=20)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    told = [result["name"] for result in answer.json()["results"]]
    assert told[0] == "passwd"
    assert max(map(len, told)) <= 255
