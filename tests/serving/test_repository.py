"""Models that come, are replaced and go while requests are answered; and the end of a service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from serving.toys import ToyDetector, photo, running, until
from singleshot.detector import Detector
from singleshot.errors import ConfigError, WeightsError
from singleshot.prediction.frames import Encoded
from singleshot.serving import repository as repositories
from singleshot.serving import serve
from singleshot.serving.options import ServeOptions
from singleshot.serving.repository import Repository, repository_of


def test_no_model() -> None:
    with pytest.raises(KeyError, match="no model is loaded"):
        Repository().get()
    with pytest.raises(KeyError, match="no model 'a'; there are none"):
        Repository().get("a")


def test_the_first_is_the_default_also_once_it_was_replaced() -> None:
    with repository_of({"a": ToyDetector(), "b": ToyDetector()}, ServeOptions()) as repository:
        old = repository.get()
        repository.load("a", ToyDetector())
        assert (repository.get().name, repository.get("b").name) == ("a", "b")
        assert repository.get() is not old
        repository.unload("a")
        assert [served.name for served in repository] == ["b"]
        with pytest.raises(KeyError, match="there are 'b'"):
            repository.unload("a")


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(tmp_path: Path) -> None:
    with repository_of({"a": ToyDetector()}, ServeOptions()) as repository:
        old = repository.get("a")
        with pytest.raises(WeightsError):
            repository.load("a", tmp_path / "missing.safetensors")
        assert repository.get("a") is old


def test_the_old_one_finishes_what_it_accepted() -> None:
    old, new = ToyDetector(), ToyDetector()
    with repository_of({"a": old}, ServeOptions()) as repository:
        old.engine.hold()
        accepted = repository.get("a").batcher.submit([Encoded(photo(value)) for value in range(40, 50)])
        repository.load("a", new)
        assert len(repository.get("a").batcher.submit([Encoded(photo(1))]).result(20)) == 1
        old.engine.go.set()
        assert len(accepted.result(20)) == 10
    assert (len(old.engine.computed), new.engine.computed) == (10, [1])


def test_a_model_is_replaced_under_load_without_a_failed_request() -> None:
    with running({"a": ToyDetector()}, queue=100) as served:
        codes: list[int] = []
        is_over = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=served.url, timeout=30) as client:
                while not is_over.is_set():
                    codes.append(client.post("/detect", content=photo(9)).status_code)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            served.service.repository.load("a", ToyDetector())
        done = len(codes)
        until(lambda: len(codes) > done + 8)
        is_over.set()
        for thread in threads:
            thread.join(30)
        assert set(codes) == {200}
        assert [name.name for name in threading.enumerate() if name.name == "singleshot-retire"] == []


def test_a_watched_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def load(path: Path) -> Detector:
        if path.read_text() == "broken":
            raise WeightsError(f"{path}: damaged")
        return ToyDetector()

    def put(name: str, text: str) -> None:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(tmp_path / name)

    monkeypatch.setattr(repositories, "load", load)
    put("a.safetensors", "one")
    (tmp_path / "notes.txt").write_text("no model")
    with repository_of({}, ServeOptions()) as repository:
        repository.watch(tmp_path, every_s=0.01)
        first = repository.get("a")
        assert [served.name for served in repository] == ["a"]
        put("b.onnx", "broken")
        put("a.safetensors", "another")
        until(lambda: repository.get("a") is not first)
        until(lambda: "model 'b' is not loaded" in caplog.text)
        second = repository.get("a")
        put("a.safetensors", "broken")
        until(lambda: "model 'a' is not loaded" in caplog.text)
        assert repository.get("a") is second
        (tmp_path / "a.safetensors").unlink()
        until(lambda: [*repository] == [])
        with pytest.raises(ConfigError, match="watched already"):
            repository.watch(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        Repository().watch(tmp_path / "missing")


def test_a_file_that_is_still_written_is_not_loaded(tmp_path: Path) -> None:
    seen = repositories._Seen(tmp_path)
    path = tmp_path / "a.onnx"
    path.write_text("ha")
    assert seen.look() == ({}, {})
    path.write_text("half")
    assert seen.look() == ({}, {})
    assert seen.look() == ({"a": path}, {})
    assert seen.look() == ({}, {})
    path.unlink()
    assert seen.look() == ({}, {"a": path})


def test_openvinos_second_file_counts(tmp_path: Path) -> None:
    seen = repositories._Seen(tmp_path)
    path = tmp_path / "a.xml"
    path.write_text("graph")
    seen.look()
    assert seen.look() == ({"a": path}, {})
    (tmp_path / "a.bin").write_text("weights")
    seen.look()
    assert seen.look() == ({"a": path}, {})


def test_what_a_watched_folder_never_served_it_does_not_unload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load(source: str | os.PathLike[str]) -> Detector:
        raise RuntimeError("of a runtime")

    monkeypatch.setattr(repositories, "load", load)
    bad = tmp_path / "a.onnx"
    bad.write_text("no model")
    with repository_of({"a": ToyDetector()}, ServeOptions()) as repository:
        seen = repositories._Seen(tmp_path)
        repository._follow(seen)
        assert "model 'a' is not loaded" in caplog.text
        bad.unlink()
        repository._follow(seen)
        assert [served.name for served in repository] == ["a"]


def test_a_folder_to_watch_is_looked_for_before_models_are_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        serve({"a": tmp_path / "missing.onnx"}, ServeOptions(port=0, watch=tmp_path / "missing"))


SERVER = """
import sys, time
from serving.toys import ToyDetector, ToyEngine
from singleshot.serving import ServeOptions, serve
from singleshot.serving.logs import json_logs

class SlowEngine(ToyEngine):
    def predict(self, batch, settings):
        time.sleep(0.02)
        return super().predict(batch, settings)

options = ServeOptions(port=0, queue=100)
with json_logs():
    whole = serve({"toy": ToyDetector(SlowEngine())}, options, lambda address: print(address, flush=True))
sys.exit(0 if whole and "torch" not in sys.modules else 3)
"""


def test_sigterm_under_load_loses_nothing() -> None:
    """Every request that was accepted is answered; later ones find nobody; the exit code is 0."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    with server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        codes: list[int | str] = []

        def ask() -> None:
            with httpx.Client(base_url=url, timeout=60, headers={"Connection": "close"}) as client:
                while True:
                    try:
                        codes.append(client.post("/detect", content=photo(200)).status_code)
                    except httpx.ConnectError:
                        return
                    except httpx.HTTPError as error:
                        codes.append(repr(error))
                        return

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(codes) > 8)
        server.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        _, log = server.communicate(timeout=30)
    assert set(codes) == {200}
    assert server.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["event"] for line in lines if line["event"] != "request"] == ["started", "stopping", "stopped"]
    assert len([line for line in lines if line["event"] == "request"]) == len(codes)
