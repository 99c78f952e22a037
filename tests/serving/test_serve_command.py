"""``singleshot serve``: what it refuses before it serves, and what it hands on."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import singleshot.serving
from singleshot.cli import app
from singleshot.serving import ServeOptions
from singleshot.serving.logs import LOGGER, JsonLines, json_logs
from singleshot.serving.server import listen, warn_if_open

runner = CliRunner()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, str], ServeOptions]]:
    """What the library was asked to serve; it serves nothing."""
    asked: list[tuple[dict[str, str], ServeOptions]] = []

    def serve(models: dict[str, str], options: ServeOptions, on_start: Callable[[str], Any]) -> bool:
        asked.append((models, options))
        on_start("http://127.0.0.1:1")
        return options.port != 1

    monkeypatch.setattr(singleshot.serving, "serve", serve)
    monkeypatch.setattr("singleshot.serving.logs.json_logs", nullcontext)
    return asked


def test_models_by_name(served: list[tuple[dict[str, str], ServeOptions]], tmp_path: Path) -> None:
    for words in ([], ["runs/a/best.safetensors", "plates=runs/b/best.onnx", "coco"], ["--watch", str(tmp_path)]):
        result = runner.invoke(app, ["serve", *words])
        assert result.exit_code == 0
        assert "Serving at http://127.0.0.1:1" in result.output
    assert [models for models, _ in served] == [
        {"coco": "coco"},
        {"best": "runs/a/best.safetensors", "plates": "runs/b/best.onnx", "coco": "coco"},
        {},
    ]
    assert runner.invoke(app, ["serve", "a/best.onnx", "b/best.onnx"]).exit_code == 2
    assert runner.invoke(app, ["serve", "--port", "1"]).exit_code == 130


def test_options(served: list[tuple[dict[str, str], ServeOptions]], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    words = ["--token-file", str(tmp_path / "token"), "--deadline", "2", "--queue", "9", "--max-mb", "1"]
    assert runner.invoke(app, ["serve", *words]).exit_code == 0
    options = served[0][1]
    assert (options.deadline_s, options.queue, options.max_bytes) == (2.0, 9, 2**20)
    assert options.token is not None
    assert options.token.get_secret_value() == "0123456789abcdef"


@pytest.mark.parametrize("text", ["", "short", "two words of a token that is long", "ü" * 20])
def test_a_token_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)
    result = runner.invoke(app, ["serve", "--token-file", str(tmp_path / "token")])
    assert result.exit_code == 2
    assert "--token-file" in result.output


def test_an_address_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singleshot.serving.logs.json_logs", nullcontext)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = runner.invoke(app, ["serve", "--port", port])
    assert result.exit_code == 2
    assert "choose another --port" in result.output


def test_small_answers_go_out_at_once() -> None:
    with listen(ServeOptions(port=0)) as listener:
        assert (
            listener.proto == socket.IPPROTO_TCP
        )  # without it asyncio sets no TCP_NODELAY, which costs 40 ms an answer


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (ServeOptions(), 0),
        (ServeOptions(host="localhost"), 0),
        (ServeOptions(host="0.0.0.0", token="0123456789abcdef"), 0),  # type: ignore[arg-type]
        (ServeOptions(host="0.0.0.0"), 1),
    ],
)
def test_a_service_that_is_open_to_all_says_so(
    options: ServeOptions, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    warn_if_open(options, "http://0.0.0.0:8000")
    assert len(caplog.records) == lines


def test_a_line_of_the_log_is_json() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 1, 'an "event"\n%s', ("ü",), None)
    record.fields = {"code": 200}
    line = json.loads(JsonLines().format(record))
    assert (line["event"], line["code"], line["level"]) == ('an "event"\nü', 200, "info")
    assert "\n" not in JsonLines().format(record)


def test_all_of_standard_error_is_json(capfd: pytest.CaptureFixture[str]) -> None:
    with json_logs():
        os.write(2, b"libpng warning: caf\xc3\xa9\n\nlibpng error: \xff\n")  # as a C library does
        logging.getLogger(LOGGER).info("request")
    os.write(2, b"after\n")
    *lines, after = capfd.readouterr().err.splitlines()
    events = [(line["event"], line.get("text")) for line in map(json.loads, lines)]
    told = [("request", None), ("stderr", "libpng error: \\xff"), ("stderr", "libpng warning: caf\xe9")]
    assert sorted(events, key=str) == told
    assert after == "after"
