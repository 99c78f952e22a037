"""``POST /detect`` and the other routes, over real connections."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from serving.toys import NAMES, Running, ToyDetector, ToyEngine, photo, running, until
from singleshot.prediction.detections import Detections

FORM = "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running({"toy": ToyDetector(), "other": ToyDetector()}, queue=4, max_bytes=100_000, max_images=3) as service:
        yield service


@pytest.fixture(scope="module")
def client(served: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=30) as client:
        yield client


def engine_of(served: Running) -> ToyEngine:
    engine: ToyEngine = served.service.model("toy").detector.engine  # type: ignore[attr-defined]
    return engine


def form(*values: int) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("image", (f"dir/{value}.png", photo(value), "image/png")) for value in values]


def as_json(*values: int) -> dict[str, Any]:
    return {"images": [base64.b64encode(photo(value)).decode() for value in values]}


def problem(response: httpx.Response, code: int) -> str:
    error = response.json()["error"]
    assert response.status_code == error["code"] == code
    assert error["request_id"] == response.headers["x-request-id"]
    return str(error["message"])


BODIES = {
    "raw": {"content": photo(200), "headers": {"Content-Type": "image/png"}},
    "raw without a type": {"content": photo(200)},
    "form": {"files": form(200)},
    "json": {"json": as_json(200)},
    "data URL": {"json": {"images": [{"data": "data:image/png;base64," + as_json(200)["images"][0], "name": "a"}]}},
}


@pytest.mark.parametrize("body", BODIES)
def test_what_predict_finds_by_every_kind_of_body(body: str, client: httpx.Client, served: Running) -> None:
    response = client.post("/detect", params={"score": 0.2}, **BODIES[body])  # type: ignore[arg-type]
    answer = response.json()
    assert response.status_code == 200
    assert (answer["model"], answer["class_names"], answer["category_ids"]) == ("toy", list(NAMES), [])
    (result,) = answer["results"]
    found = Detections.from_dict(result | {"category_ids": answer["category_ids"]}, answer["class_names"])
    assert found == served.service.model("toy").detector.predict(np.full((16, 12, 3), 200, np.uint8), 0.2)
    assert len(found) == 2
    assert set(result) == {"name", "image_size_hw", "detections"}
    assert 0 <= answer["ms"]["compute"] <= answer["ms"]["total"]


def test_several_images_keep_their_order_and_names(client: httpx.Client) -> None:
    answer = client.post("/detect", files=form(100, 250, 30), params={"score": 0.05, "classes": "cup"}).json()
    assert [result["name"] for result in answer["results"]] == ["100.png", "250.png", "30.png"]
    scores = [[round(255 * row["score"]) for row in result["detections"]] for result in answer["results"]]
    assert scores == [[100], [250], [30]]


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ("score=0.05", ["cup", "dog", "cat"]),
        ("score=0.05&max_detections=2", ["cup", "dog"]),
        ("score=0.05&classes=cat,dog", ["dog", "cat"]),
        ("score=0.05&classes=cat&classes=0&nms_iou=1", ["cup", "cat"]),
        ("", ["cup"]),
        ("score=0.9&model=other", []),
    ],
)
def test_thresholds_of_a_request(parameters: str, names: list[str], client: httpx.Client) -> None:
    (result,) = client.post(f"/detect?{parameters}", content=photo(150)).json()["results"]
    assert [row["class_name"] for row in result["detections"]] == names


def test_coco_results(client: httpx.Client) -> None:
    rows = client.post("/detect?format=coco&score=0.2", files=form(200, 180)).json()
    assert [(row["image_id"], row["category_id"], row["bbox"][:2]) for row in rows] == [
        (200, 0, [1.5, 2.0]), (200, 1, [1.5, 2.0]), (180, 0, [1.5, 2.0]), (180, 1, [1.5, 2.0]),
    ]  # fmt: skip


def test_a_picture(client: httpx.Client) -> None:
    response = client.post("/detect?format=image", files=[("f", ("a.png", photo(200, (60, 80)), "image/png"))])
    picture = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)
    assert response.headers["content-type"] == "image/jpeg"
    assert picture.shape == (60, 80, 3)
    assert picture.min() < 150 < picture.max()


def huge() -> bytes:
    """A PNG whose header says 20,000 x 20,000 pixels."""
    data = bytearray(photo(1))
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    return bytes(data)


def test_bad_images_beside_a_good_one(client: httpx.Client) -> None:
    files = [("f", ("good.png", photo(200))), ("f", ("text.txt", b"no image")), ("f", ("huge.png", huge()))]
    good, text, large = client.post("/detect", files=files).json()["results"]
    assert len(good["detections"]) == 2
    assert (set(text), set(large)) == ({"name", "error"}, {"name", "error"})
    assert "is not an image" in text["error"]
    assert "over the limit of 64,000,000" in large["error"]
    assert "text.txt" not in problem(client.post("/detect?format=coco", files=files[:2]), 400)


BAD: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no body": (400, "no image", {"content": b""}),
    "no image": (400, "is not an image", {"content": b"hello"}),
    "cut off": (400, "cut off", {"content": photo(200)[:-20]}),
    "too many pixels": (400, "over the limit", {"content": huge()}),
    "no good image": (400, "none of the images", {"files": [("f", ("a", b"x")), ("f", ("b", b"y"))]}),
    "too many bytes": (413, "100,000 bytes", {"content": bytes(100_001)}),
    "too many bytes in chunks": (413, "100,000 bytes", {"content": (bytes(9_000) for _ in range(20))}),
    "too many images": (413, "3 images", {"files": form(1, 2, 3, 4)}),
    "too many in JSON": (413, "may have 3", {"json": as_json(1, 2, 3, 4)}),
    "compressed": (415, "compressed", {"content": photo(1), "headers": {"Content-Encoding": "gzip"}}),
    "no boundary": (400, "no boundary", {"content": b"--b", "headers": {"Content-Type": "multipart/form-data"}}),
    "no form": (400, "form", {"content": b"hello", "headers": {"Content-Type": FORM}}),
    "half a form": (
        400, "cut off",
        {
            "content": b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nx',
            "headers": {"Content-Type": FORM},
        },
    ),
    "a field": (400, "settings belong into the address", {"files": form(1), "data": {"score": "0.5"}}),
    "no JSON": (400, "no JSON", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    "deep JSON": (400, "10,000 values", {"content": b"[" * 90_000, "headers": {"Content-Type": "application/json"}}),
    "other JSON": (400, "must be", {"json": [1]}),
    "more JSON": (400, "'score' is not read here", {"json": as_json(1) | {"score": 1}}),
    "no base64": (400, r"images[0] is no base64", {"json": {"images": ["%%%"]}}),
    "no text": (400, r"images[0] must be base64", {"json": {"images": [1]}}),
    "wrong score": (400, "score: Input", {"params": {"score": 2}, "content": photo(1)}),
    "no score": (400, "score: Input", {"params": {"score": "nan"}, "content": photo(1)}),
    "wrong name": (400, "no parameter 'threshold'", {"params": {"threshold": 0.5}, "content": photo(1)}),
    "wrong class": (400, "did you mean 'dog'", {"params": {"classes": "dgo"}, "content": photo(1)}),
    "wrong format": (400, "no format 'xml'", {"params": {"format": "xml"}, "content": photo(1)}),
    "two pictures": (400, "one image, not 2", {"params": {"format": "image"}, "files": form(1, 2)}),
    "wrong deadline": (400, "X-Deadline-Ms", {"headers": {"X-Deadline-Ms": "soon"}, "content": photo(1)}),
    "no time": (504, "deadline", {"headers": {"X-Deadline-Ms": "0"}, "content": photo(1)}),
    "no model": (404, "there are 'toy', 'other'", {"params": {"model": "best"}, "content": photo(1)}),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_request_that_makes_no_sense(what: str, client: httpx.Client, served: Running) -> None:
    code, message, request = BAD[what]
    before = len(engine_of(served).batches)
    assert message in problem(client.post("/detect", **request), code)
    assert len(engine_of(served).batches) == before
    assert served.service.held_bytes == 0


def test_other_routes(client: httpx.Client) -> None:
    assert problem(client.get("/nothing"), 404) == "Not Found"
    assert problem(client.get("/detect"), 405) == "Method Not Allowed"
    first, other = client.get("/models").json()["models"]
    assert (first["name"], other["name"], first["class_names"], first["size_hw"]) == (
        "toy",
        "other",
        list(NAMES),
        [8, 8],
    )
    assert 0 < first["score"] < 1
    page = client.get("/docs").text
    assert "POST /detect" in page
    assert not re.search(r"<script|<style|https?://", page)
    assert set(client.get("/openapi.json").json()["paths"]) >= {"/detect", "/models", "/metrics"}


def test_counters(client: httpx.Client) -> None:
    client.post("/detect", content=photo(99))
    text = client.get("/metrics").text
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}
    assert values['singleshot_requests_total{route="/detect",code="200"}'] >= 1
    assert values['singleshot_batch_images_count{model="toy"}'] >= 1
    assert (
        values['singleshot_request_seconds_bucket{route="/detect",le="+Inf"}']
        == (values['singleshot_request_seconds_count{route="/detect"}'])
    )
    assert values['singleshot_queue_images{model="toy"}'] == 0
    assert values["singleshot_queue_limit_images"] == 4
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(set(names)) == len(names) >= 8


def requests_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage() == "request"]


def test_the_log_says_who_and_how_long_but_nothing_of_images(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "singleshot.serving"):
        response = client.post("/detect", files=form(123), headers={"X-Request-Id": "mine-1"})
        client.post("/detect", files=form(123), headers={"X-Request-Id": 'forged"}'})
        until(lambda: len(requests_in(caplog)) == 2)
    first, second = (record.fields for record in requests_in(caplog))  # type: ignore[attr-defined]
    assert response.headers["x-request-id"] == first["request_id"] == "mine-1"
    assert re.fullmatch(r"[0-9a-f]{32}", second["request_id"])
    assert {key: first[key] for key in ("method", "route", "code", "model", "images")} == {
        "method": "POST", "route": "/detect", "code": 200, "model": "toy", "images": 1,
    }  # fmt: skip
    assert "123" not in json.dumps(first | {"ms": 0})


def in_thread(client: httpx.Client, **request: Any) -> tuple[threading.Thread, list[httpx.Response]]:
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(client.post("/detect", **request)))
    thread.start()
    return thread, answers


def answer_without_body(served: Running, header: str) -> str:
    """The answer to a request whose body never comes."""
    with socket.create_connection(("127.0.0.1", served.port)) as line:
        line.settimeout(30)
        line.sendall(f"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n{header}\r\n\r\n".encode())
        answer = b""
        while b"}" not in answer:
            answer += line.recv(4096)
    return answer.decode()


def test_overload_is_refused_at_once_and_the_deadline_is_kept_while_the_network_is_busy(
    client: httpx.Client, served: Running
) -> None:
    engine = engine_of(served)
    engine.hold()
    threads = [in_thread(client, content=photo(40))]
    until(engine.is_in.is_set)
    batcher = served.service.model("toy").batcher
    for count in range(1, 5):
        threads.append(in_thread(client, content=photo(40 + count)))
        until(lambda: batcher.queued == count)  # noqa: B023
    busy = client.post("/detect", content=photo(50))
    assert "queue is full" in problem(busy, 503)
    assert int(busy.headers["retry-after"]) >= 1
    assert client.post("/detect?model=other", content=photo(51)).status_code == 200
    engine.go.set()
    for thread, _ in threads:
        thread.join(30)
    assert [answers[0].status_code for _, answers in threads] == [200] * 5
    engine.hold()
    thread, _ = in_thread(client, content=photo(60))
    until(engine.is_in.is_set)
    late = client.post("/detect", content=photo(61), headers={"X-Deadline-Ms": "100"})
    assert "deadline" in problem(late, 504)
    batcher.pace._seconds = deque([20.0])  # the quickest lately, and one image is before it
    assert "cannot be met" in answer_without_body(served, "X-Deadline-Ms: 10000")
    batcher.pace._seconds.clear()
    engine.go.set()
    thread.join(30)
    assert client.post("/detect", content=photo(62)).status_code == 200
    assert not {50, 61} & set(engine.computed)


def test_nothing_is_computed_for_a_client_that_went_away(client: httpx.Client, served: Running) -> None:
    engine, batcher = engine_of(served), served.service.model("toy").batcher
    engine.hold()
    thread, _ = in_thread(client, content=photo(70))
    until(engine.is_in.is_set)
    body = photo(71)
    with socket.create_connection(("127.0.0.1", served.port)) as gone:
        gone.sendall(b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        until(lambda: batcher.queued == 1)
    until(lambda: 'code="499"' in client.get("/metrics").text)
    engine.go.set()
    thread.join(30)
    assert client.post("/detect", content=photo(72)).status_code == 200
    assert 71 not in engine.computed


def test_an_error_of_ours_is_logged_and_not_told(
    client: httpx.Client, served: Running, caplog: pytest.LogCaptureFixture
) -> None:
    engine_of(served).error = RuntimeError("secret")
    with caplog.at_level(logging.INFO, "singleshot.serving"):
        assert "secret" not in problem(client.post("/detect", content=photo(1)), 500)
        until(lambda: len(requests_in(caplog)) == 1)
    engine_of(served).error = None
    assert "secret" in str(requests_in(caplog)[0].exc_info)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:9"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
    ],
)
def test_pages_of_other_sites_reach_nothing(headers: dict[str, str], code: int, client: httpx.Client) -> None:
    assert client.get("/models", headers=headers).status_code == code


def test_a_token() -> None:
    with (
        running({"toy": ToyDetector()}, token="s3cret-and-long") as served,
        httpx.Client(base_url=served.url) as client,
    ):
        for given in (None, "Bearer", "Bearer s3cret-and-lon", "Basic s3cret-and-long", "Bearer é", "s3cret-and-long"):
            headers = [] if given is None else [(b"authorization", given.encode("latin-1"))]
            response = client.post("/detect", content=photo(9), headers=headers)
            assert "token" in problem(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"
        right = {"Authorization": "Bearer s3cret-and-long", "Origin": "https://site.example"}
        assert client.post("/detect", content=photo(9), headers=right).status_code == 200
        assert client.get("/metrics").status_code == 401
        assert "s3cret" not in repr(served.service.options)


def test_a_connection_that_says_nothing_is_closed() -> None:
    with running({"toy": ToyDetector()}, header_s=0.2) as served:
        for start in (b"", b"POST /detect HTTP/1.1\r\nHost: local"):
            with socket.create_connection(("127.0.0.1", served.port), timeout=30) as slow:
                slow.sendall(start)
                with contextlib.suppress(ConnectionResetError):
                    assert slow.recv(100) == b""
        with httpx.Client(base_url=served.url) as client:  # a request may take longer than its header
            engine_of(served).hold()
            thread, answers = in_thread(client, content=photo(5))
            time.sleep(0.4)
            engine_of(served).go.set()
            thread.join(30)
            assert answers[0].status_code == 200


def test_a_body_that_comes_too_slowly_meets_its_deadline(served: Running) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as slow:
        slow.sendall(
            b"POST /detect HTTP/1.1\r\nHost: localhost\r\nX-Deadline-Ms: 50\r\nContent-Length: 1000\r\n\r\nabc"
        )
        assert slow.recv(1000).startswith(b"HTTP/1.1 504")


def test_bytes_of_all_requests_are_bounded() -> None:
    with running({"toy": ToyDetector()}, max_held_bytes=5000) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as slow:
            slow.sendall(b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6000\r\n\r\n" + bytes(4990))
            until(lambda: served.service.held_bytes == 4990)
            assert "too many uploads" in problem(httpx.post(f"{served.url}/detect", content=photo(9)), 503)
        until(lambda: served.service.held_bytes == 0)
        assert httpx.post(f"{served.url}/detect", content=photo(9)).status_code == 200
