"""KServe V2 as pure functions: literal requests, what no request may do, and the way to and from Triton's client."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot.errors import ConfigError
from singleshot.prediction.detections import Detections
from singleshot.serving.kserve import InferRequest, model_metadata, read_infer, write_infer
from singleshot.serving.tensors import OUTPUTS, padded

PIXELS = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
FILES = [b"\xff\xd8one", b"", b"three"]


def message(tensor: Mapping[str, Any], **rest: Any) -> bytes:
    return json.dumps({"inputs": [tensor], **rest}).encode()


def image(**changes: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "UINT8", "shape": [2, 4, 5, 3], "data": PIXELS.tolist()} | changes


def file(**changes: Any) -> dict[str, Any]:
    texts = [base64.b64encode(data).decode() for data in FILES]
    return {"name": "file", "datatype": "BYTES", "shape": [3], "data": texts} | changes


def binary(tensor: dict[str, Any], raw: bytes, **rest: Any) -> tuple[bytes, str]:
    del tensor["data"]
    head = message(tensor | {"parameters": {"binary_data_size": len(raw)}}, **rest)
    return head + raw, str(len(head))


def framed(*files: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(data)) + data for data in files)


def pictures(body: bytes, header_length: str | None = None) -> list[Any]:
    return [bytes(p) if isinstance(p, bytes) else p.tolist() for p in read(body, header_length).pictures]


def read(body: bytes, header_length: str | None = None) -> InferRequest:
    return read_infer(body, header_length, max_images=4)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ((message(image(shape=[0, 4, 5, 3], data=[])), None), []),
        ((message(file(shape=[0], data=[])), None), []),
        (binary(image(shape=[0, 4, 5, 3]), b""), []),
        (binary(file(shape=[0]), b""), []),
        ((message(image()), None), PIXELS.tolist()),
        ((message(image(data=PIXELS.ravel().tolist())), None), PIXELS.tolist()),
        (binary(image(), PIXELS.tobytes()), PIXELS.tolist()),
        ((message(file()), None), FILES),
        ((message(file(shape=[3, 1], data=[[text] for text in file()["data"]])), None), FILES),
        (binary(file(), framed(*FILES)), FILES),
        (binary(file(shape=[3, 1]), framed(*FILES)), FILES),
    ],
)
def test_pictures_are_read(request_: tuple[bytes, str | None], expected: list[Any]) -> None:
    assert pictures(*request_) == expected


def test_what_else_a_request_says() -> None:
    plain = read(message(image()))
    assert plain.outputs == dict.fromkeys(OUTPUTS, False)
    assert (plain.settings, plain.request_id, plain.timeout_s) == ({}, "", None)
    parameters = {"score": 0.5, "nms_iou": 1, "classes": "cat,dog", "timeout": 1500, "binary_data_output": True}
    outputs = [{"name": "scores"}, {"name": "boxes", "parameters": {"binary_data": False}}]
    full = read(message(image(), parameters=parameters, outputs=outputs, id="7"))
    assert full.outputs == {"scores": True, "boxes": False}
    assert full.settings == {"score": 0.5, "nms_iou": 1, "classes": "cat,dog"}
    assert (full.request_id, full.timeout_s) == ("7", 0.0015)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ((b"", None), "not JSON"),
        ((b"\xff", None), "not JSON"),
        ((b"[" * 100_000, None), "not JSON"),
        ((b"9" * 10_000, None), "not JSON"),
        ((b'{"inputs": NaN}', None), "NaN"),
        ((b"[]", None), "JSON object"),
        ((b"{}", None), "`inputs` is a list of one"),
        ((json.dumps({"inputs": [image(), file()]}).encode(), None), "`inputs` is a list of one"),
        ((message(image(name="picture")), None), "no input 'picture'; there are image, file"),
        ((message(image(datatype="FP32")), None), "datatype UINT8, not 'FP32'"),
        ((message(image(shape=[4, 5, 3])), None), r"\[N, height, width, 3\]"),
        ((message(image(shape=[2, 4, 5, -3])), None), "negative"),
        ((message(image(shape=[2, 4, 5, True])), None), "whole numbers"),
        ((message(image(shape=[2, 0, 5, 3], data=[])), None), r"\[N, height, width, 3\]"),
        ((message(image(shape=[4, 2**30, 2**30, 3], data=[1])), None), "wants .* values, not 1"),
        (binary(image(shape=[4, 2**30, 2**30, 3]), b"1"), "wants .* values, not 1"),
        ((message(image(shape=[2, 5, 4, 3])), None), "not nested as its shape"),
        ((message(image(shape=[1, 4, 5, 3])), None), "wants 60 values, not 120"),
        ((message(image(data=[1.5] * 120)), None), "something else than whole numbers"),
        ((message(image(data=["1"] * 120)), None), "something else than whole numbers"),
        ((message(image(data=[256] * 120)), None), "outside 0..255"),
        ((message(image(data=[-1] * 120)), None), "outside 0..255"),
        ((message(image(data="AAAA")), None), "a list of values"),
        ((message(file(shape=[2])), None), "wants 2 files, not 3"),
        (binary(file(shape=[2]), framed(*FILES)), "9 bytes follow the last of 2 files"),
        (binary(file(shape=[4]), framed(*FILES)), "wants 4 files, not 3"),
        ((message(file(shape=[3, 2])), None), r"the shape is \[N\]"),
        ((message(file(data=["%", "", ""])), None), "not base64"),
        ((message(file(data=["é", "", ""])), None), "not base64"),
        ((message(file(data=[1, 2, 3])), None), "in base64"),
        (binary(file(), framed(*FILES)[:-1]), "cut off after 4"),
        (binary(file(), framed(*FILES[:2]) + b"\0"), "ends within a length"),
        (binary(file(), b"\xff\xff\xff\xff"), "4,294,967,295 bytes is cut off"),
        ((message(file(shape=[5], data=[""])), None), "5 pictures .* over the limit of 4"),
        ((message(image()), "0"), "length of the JSON"),
        ((message(image()), "-1"), "length of the JSON"),
        ((message(image()), "1" * 5000), "length of the JSON"),
        ((message(image()), "99999"), "length of the JSON"),
        ((message(image()) + b"rest", str(len(message(image())))), "4 bytes follow"),
        ((message({k: v for k, v in image().items() if k != "data"}), None), "either `data` or"),
        ((message(image(parameters={"binary_data_size": 120})), None), "either `data` or"),
        ((message(image(parameters={"shared_memory_region": "x"})), None), "the only parameter"),
        ((message(image(), outputs=[{"name": "masks"}]), None), "no output 'masks'.*; there are boxes"),
        ((message(image(), outputs=[{"name": "boxes"}, {"name": "boxes"}]), None), "named twice"),
        ((message(image(), outputs=[{"name": "boxes", "parameters": {"classification": 3}}]), None), "binary_data"),
        ((message(image(), parameters={"scores": 0.5}), None), "no parameter 'scores'; there are score"),
        ((message(image(), parameters={"score": "0.5"}), None), "`score` is not to be '0.5'"),
        ((message(image(), parameters={"score": True}), None), "`score` is not to be True"),
        ((message(image(), parameters={"timeout": 0}), None), "microseconds"),
        ((message(image(), parameters=[]), None), "`parameters` is a JSON object"),
        ((message(image(), id=7), None), "`id` is a text"),
        ((b" " * (2**24 + 1), None), "over the limit of 16,777,216: send the input as a binary"),
    ],
)
def test_other_requests_are_refused(request_: tuple[bytes, str | None], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(*request_)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50)
@given(
    st.sampled_from(["inputs", "outputs", "parameters", "id", "name", "datatype", "shape", "data", "input parameters"]),
    JSON,
    st.sampled_from([image, file]),
    st.binary(max_size=20),
    st.none() | st.integers(-1, 900).map(str),
)
def test_whatever_stands_in_a_field_is_read_or_refused(
    key: str, value: Any, make: Any, rest: bytes, header_length: str | None
) -> None:
    tensor = make()
    if key in tensor or key == "input parameters":
        body = message(tensor | {key.removeprefix("input "): value})
    else:
        body = json.dumps({"inputs": [tensor]} | {key: value}).encode()
    try:
        found = read(body + rest, header_length).pictures
    except ConfigError:
        return
    assert len(found) in (0, 2, 3)


def some(count: int) -> Detections:
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4) / 3
    scores = np.linspace(0.9, 0.4, count, dtype=np.float32)
    return Detections(boxes, scores, np.arange(count), ("cat", "dog", "cow"), (4, 5))


@pytest.mark.parametrize("counts", [(), (0,), (2, 0, 3)])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_answers_hold_what_was_found(counts: tuple[int, ...], as_bytes: bool) -> None:
    found = padded([some(count) for count in counts])
    answer = write_infer(InferRequest([], dict.fromkeys(OUTPUTS, as_bytes), request_id="é7"), "m", found)
    head = json.loads(answer.body[: answer.header_length])
    assert (head["model_name"], head["model_version"], head["id"]) == ("m", "1", "é7")
    assert (answer.header_length is not None) == as_bytes
    at = answer.header_length or 0
    for output, array in zip(head["outputs"], found, strict=True):
        if as_bytes:
            size = output["parameters"]["binary_data_size"]
            values = np.frombuffer(answer.body[at : at + size], array.dtype.newbyteorder("<"))
            at += size
        else:
            values = np.array(output["data"], array.dtype)
        assert OUTPUTS[output["name"]] == output["datatype"]
        assert np.array_equal(values.reshape(output["shape"]), array)


def test_answers_hold_only_what_was_asked_for_in_its_order() -> None:
    answer = write_infer(InferRequest([], {"counts": False, "boxes": False}), "m", padded([some(1)]))
    assert [output["name"] for output in json.loads(answer.body)["outputs"]] == ["counts", "boxes"]
    assert "id" not in json.loads(answer.body)


def test_metadata_names_every_tensor() -> None:
    told = model_metadata("coco")
    assert [(tensor["name"], tensor["datatype"]) for tensor in told["outputs"]] == list(OUTPUTS.items())
    assert [tensor["name"] for tensor in told["inputs"]] == ["image", "file"]
