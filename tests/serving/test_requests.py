"""Requests that are small, and yet would take a parser long or make it fail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.toys import photo
from singleshot.errors import ConfigError
from singleshot.serving.gate import _host_of
from singleshot.serving.kserve import read_infer
from singleshot.serving.options import ServeOptions
from singleshot.serving.problems import HttpProblem
from singleshot.serving.repository import Repository
from singleshot.serving.requests import class_choice, pictures_of
from singleshot.serving.service import Service

SERVICE = Service(Repository(), ServeOptions())


def form(disposition: bytes) -> bytes:
    return b"--x\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + photo(1) + b"\r\n--x--\r\n"


def test_a_form_is_read() -> None:
    body = form(b'form-data; name="a"; filename="b.png"')
    assert [picture.name for picture in pictures_of(body, "multipart/form-data; boundary=x", SERVICE)] == ["b.png"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (form(b"form-data; filename=x" + 5000 * b";"), "multipart/form-data; boundary=x"),
        (form(b'form-data; filename="a"'), f"multipart/form-data; boundary=x{5000 * ';'}"),
    ],
)
def test_parameters_whose_parsing_takes_the_square_of_their_length(body: bytes, kind: str) -> None:
    with pytest.raises(HttpProblem, match=r"over 4,096 characters|Maximum header size") as caught:
        pictures_of(body, kind, SERVICE)
    assert caught.value.code == 400


@pytest.mark.parametrize("values", ["[]," * 10_001 + "0", "{}," * 10_001 + "0", "0," * 10_001 + "0"])
def test_json_of_many_values_is_not_parsed(values: str) -> None:
    with pytest.raises(HttpProblem, match="over 10,000 values"):
        pictures_of(f'{{"images": [{values}]}}'.encode(), "application/json", SERVICE)


def test_a_key_is_not_sent_back_whole() -> None:
    with pytest.raises(HttpProblem) as caught:
        pictures_of(json.dumps({"images": ["AAAA"], "k" * 10_000: 1}).encode(), "application/json", SERVICE)
    assert len(str(caught.value)) < 200


def test_ids_of_classes() -> None:
    assert class_choice(["1,cat"], ["cat"]) == (1, "cat")
    assert class_choice(["9" * 5000], ["cat"]) == ("9" * 5000,)


@pytest.mark.parametrize(
    "parameters",
    [{"score": 10**400}, {"score": 1.5}, {"nms_iou": -1}, {"max_detections": 0}, {"max_detections": 2**70}],
)
def test_thresholds_of_kserve_are_checked(parameters: dict[str, Any]) -> None:
    tensor = {"name": "file", "datatype": "BYTES", "shape": [0], "data": []}
    with pytest.raises(ConfigError, match="must lie in"):
        read_infer(json.dumps({"inputs": [tensor], "parameters": parameters}).encode(), max_images=1)


def test_lists_of_kserve_are_counted() -> None:
    with pytest.raises(ConfigError, match="send `data` flat"):
        read_infer(b'{"inputs": [' + b"[]," * 2**18 + b"0]}", max_images=1)


@pytest.mark.parametrize(("origin", "host"), [("http://a:1", "a:1"), ("null", ""), ("http://[", None)])
def test_origins(origin: str, host: str | None) -> None:
    assert _host_of(origin) == host
