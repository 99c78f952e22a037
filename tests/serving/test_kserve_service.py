"""KServe V2 as clients speak it to a service that runs: Triton's own, and requests by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from serving.toys import Running, ToyDetector, running
from singleshot.prediction.detections import Detections

TOY = ToyDetector()
PICTURES = np.stack([np.full((40, 60, 3), value, np.uint8) for value in (90, 240)])


@pytest.fixture(scope="module")
def live() -> Iterator[Running]:
    with running({"toy": TOY}, max_images=4, max_pixels=100_000) as service:
        yield service


@pytest.fixture(scope="module")
def local() -> list[Detections]:
    return TOY.predict(list(PICTURES), 0.3)


def png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def assert_same(outputs: dict[str, np.ndarray], local: list[Detections]) -> None:
    assert sum(map(len, local))
    assert outputs["counts"].tolist() == [len(own) for own in local]
    for row, own in enumerate(local):
        assert np.array_equal(outputs["boxes"][row, : len(own)], own.boxes_xyxy)
        assert np.array_equal(outputs["scores"][row, : len(own)], own.scores)
        assert outputs["labels"][row].tolist()[: len(own)] == own.class_ids.tolist()


@pytest.fixture(scope="module")
def triton(live: Running) -> Iterator[Any]:
    client = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    with client.InferenceServerClient(f"127.0.0.1:{live.port}") as own:
        yield own


def test_tritons_client_asks_what_there_is(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("toy")
    assert triton.is_model_ready("toy", "1")
    assert not triton.is_model_ready("other")
    assert triton.get_server_metadata()["name"] == "singleshot"
    told = triton.get_model_metadata("toy")
    assert (told["name"], told["versions"]) == ("toy", ["1"])


@pytest.mark.parametrize(("name", "binary_in"), [("image", False), ("image", True), ("file", True)])
@pytest.mark.parametrize("binary_out", [None, False, True])
def test_tritons_client_gets_what_predict_finds(
    triton: Any, local: list[Detections], name: str, binary_in: bool, binary_out: bool | None
) -> None:
    import tritonclient.http as client

    if name == "image":
        tensor = client.InferInput("image", list(PICTURES.shape), "UINT8")
        tensor.set_data_from_numpy(PICTURES, binary_data=binary_in)
    else:
        tensor = client.InferInput("file", [len(PICTURES)], "BYTES")
        tensor.set_data_from_numpy(np.array([png(picture) for picture in PICTURES], dtype=object))
    wanted = None
    if binary_out is not None:
        names = ("counts", "boxes", "scores", "labels")
        wanted = [client.InferRequestedOutput(output, binary_data=binary_out) for output in names]
    found = triton.infer(
        "toy", [tensor], outputs=wanted, request_id="r1", parameters={"score": 0.3}, timeout=20_000_000
    )
    assert found.get_response()["id"] == "r1"
    assert_same({output: found.as_numpy(output) for output in ("boxes", "scores", "labels", "counts")}, local)


def test_tritons_client_is_told_what_is_wrong(triton: Any) -> None:
    import tritonclient.http as client

    tensor = client.InferInput("image", [1, 1, 1, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 1, 1, 3), np.uint8))
    with pytest.raises(client.InferenceServerException, match="no parameter 'scores'"):
        triton.infer("toy", [tensor], parameters={"scores": 0.3})
    with pytest.raises(client.InferenceServerException, match="no model 'other'"):
        triton.infer("other", [tensor])


def image(**changes: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "UINT8", "shape": list(PICTURES.shape), "data": PICTURES.tolist()} | changes


FILE = {"name": "file", "datatype": "BYTES"}


def ask(live: Running, body: Any, path: str = "toy/infer", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{live.url}/v2/models/{path}", content=content, headers=headers, timeout=20)


def test_no_picture_has_no_detections(live: Running) -> None:
    answer = ask(live, {"inputs": [image(shape=[0, 4, 5, 3], data=[])]})
    assert answer.status_code == 200
    assert {output["name"]: output["shape"] for output in answer.json()["outputs"]} == {
        "boxes": [0, 0, 4], "scores": [0, 0], "labels": [0, 0], "counts": [0],
    }  # fmt: skip


def test_json_by_hand(live: Running, local: list[Detections]) -> None:
    answer = ask(live, {"id": "7", "inputs": [image()], "parameters": {"score": 0.3}}, "toy/versions/1/infer").json()
    assert answer["id"] == "7"
    kinds = {"FP32": np.float32, "INT64": np.int64}
    outputs = {o["name"]: np.array(o["data"], kinds[o["datatype"]]).reshape(o["shape"]) for o in answer["outputs"]}
    assert_same(outputs, local)


def test_settings_are_followed(live: Running) -> None:
    def counts(**parameters: Any) -> list[int]:
        answer = ask(live, {"inputs": [image()], "outputs": [{"name": "counts"}], "parameters": parameters})
        return answer.json()["outputs"][0]["data"]

    def by_predict(score: float = 0.3, **how: Any) -> list[int]:
        found = TOY.predict(list(PICTURES), score, **how)
        return [len(own) for own in found]

    assert counts(score=0.6) == by_predict(0.6)
    assert counts(classes="dog,cat", max_detections=1) == by_predict(classes=["dog", "cat"], max_detections=1)
    assert counts(nms_iou=0.1) == by_predict(nms_iou=0.1)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("other/infer", {}, 404, "no model 'other'"),
        ("toy/versions/2/infer", {}, 404, "no version '2'"),
        ("toy/infer", b"", 400, "no image"),
        ("toy/infer", b"{", 400, "not JSON"),
        ("toy/infer", {"inputs": [image(shape=[5, 1, 1, 3], data=[0] * 15)]}, 400, "over the limit of 4"),
        ("toy/infer", {"inputs": [image(shape=[1, 1000, 101, 3], data=[0] * 303_000)]}, 400, "limit of 100,000"),
        ("toy/infer", {"inputs": [image()], "parameters": {"classes": "cow"}}, 400, "no class 'cow'"),
        ("toy/infer", {"inputs": [image()], "parameters": {"score": 7}}, 400, "`score` must lie in 0..1"),
        ("toy/infer", {"inputs": [image()], "parameters": {"timeout": 1}}, 504, "deadline"),
        ("toy/infer", {"inputs": [FILE | {"shape": [1], "data": ["AAAA"]}]}, 400, "not an image"),
        ("toy/nothing", {}, 404, "Not Found"),
    ],
)  # fmt: skip
def test_refusals_are_the_protocols(live: Running, path: str, body: Any, status: int, said: str) -> None:
    answer = ask(live, body, path)
    assert (answer.status_code, set(answer.json())) == (status, {"error"})
    assert said in answer.json()["error"]


def test_one_bad_file_refuses_all(live: Running) -> None:
    texts = [base64.b64encode(data).decode() for data in (png(PICTURES[0]), png(PICTURES[1])[:-20])]
    answer = ask(live, {"inputs": [FILE | {"shape": [2], "data": texts}]})
    assert answer.status_code == 400
    assert "image 2" in answer.json()["error"]


def test_a_service_that_ends_is_not_ready(live: Running) -> None:
    assert httpx.get(f"{live.url}/v2/health/ready").status_code == 200
    live.service.is_draining = True
    try:
        assert httpx.get(f"{live.url}/v2/health/ready").status_code == 503
        assert httpx.get(f"{live.url}/v2/health/live").status_code == 200
    finally:
        live.service.is_draining = False


def test_a_token_is_wanted_for_all_but_health() -> None:
    with running({"toy": TOY}, token="secret") as live:
        assert httpx.get(f"{live.url}/v2/health/ready").status_code == 200
        for path in ("/v2", "/v2/models/toy", "/v2/models/toy/ready"):
            refused = httpx.get(live.url + path)
            assert (refused.status_code, list(refused.json())) == (401, ["error"])
            assert isinstance(refused.json()["error"], str)
            assert httpx.get(live.url + path, headers={"Authorization": "Bearer secret"}).status_code == 200
