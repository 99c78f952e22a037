"""One engine of a detector for all thresholds and threads; copies, forks, changed networks, damaged files."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import noise

from singleshot.core.once import Once
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, WeightsError
from singleshot.export import conversion
from singleshot.export.compiled import compiled_file
from singleshot.export.int8_file import int8_path
from singleshot.export.package import Kind, read_package
from singleshot.kernels import detect
from singleshot.runtime import engines
from singleshot.runtime.changes import Watch
from singleshot.runtime.torch_engine import network_backend

MODULES = {"torch": "torch", "openvino": "openvino", "onnx": "onnxruntime"}
pytestmark = pytest.mark.usefixtures("cache_folder")


@pytest.fixture(params=MODULES)
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(MODULES[request.param])
    return str(request.param)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is built and converted from here on."""
    found: list[str] = []

    def counting(name: str, function: Callable[..., object]) -> Callable[..., object]:
        return lambda *args: (found.append(name), function(*args))[1]

    monkeypatch.setattr(engines, "build_engine", counting("engine", engines.build_engine))
    for name in ("_openvino_parts", "_onnx_parts"):
        monkeypatch.setattr(conversion, name, counting("conversion", getattr(conversion, name)))
    return found


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("singleshot")
    monkeypatch.setattr(logger, "propagate", False)
    caplog.set_level(logging.INFO, logger=logger.name)  # other libraries raise levels when they are imported
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def fresh(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights where nothing has been converted yet."""
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "small.safetensors"
    path.write_bytes(weights.read_bytes())
    return path


def found(detector: Detector, backend: str, score: float = 0.3, **options: object) -> list[tuple[int, ...]]:
    return [
        (int(id), *np.round(box).astype(int).tolist())
        for result in [detector.predict(noise(), score, backend=backend, precision="fp32", device="cpu", **options)]  # type: ignore[call-overload]
        for id, box in zip(result.class_ids, result.boxes_xyxy, strict=True)
    ]


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("compiled", [True, False])
def test_thresholds_and_lists_make_nothing_anew(
    backend: str, touched: bool, compiled: bool, weights: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(detect, "_function", lambda: None)
    detector = load(weights)
    if touched:
        detector.network  # noqa: B018 # looked at, not changed
    first = found(detector, backend)
    detector.predict([noise()] * 3, 0.3, backend=backend, precision="fp32", device="cpu")
    assert set(built) <= {"engine", "conversion"}
    built.clear()
    for score in (0.5, 0.3, 0.9):
        assert len(found(detector, backend, score)) <= len(first)
        detector.predict([noise()] * 3, score, backend=backend, precision="fp32", device="cpu")
    assert len(found(detector, backend, nms_iou=0.1)) < len(first)
    assert len(found(detector, backend, max_detections=2)) == 2
    assert found(detector, backend) == first
    assert built == []


def test_first_calls_from_several_threads_convert_once(backend: str, fresh: Path, built: list[str]) -> None:
    detector, start = load(fresh), threading.Barrier(6)

    def request(_: int) -> list[tuple[int, ...]]:
        start.wait()
        return found(detector, backend)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(request, range(6)))
    assert results == [results[0]] * 6
    assert results[0]
    assert built.count("engine") == 1
    assert built.count("conversion") == (backend != "torch")


def test_two_detectors_of_a_file_convert_it_once(backend: str, fresh: Path, built: list[str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda detector: found(detector, backend), [load(fresh), load(fresh)])
    assert first == second
    assert built.count("conversion") == (backend != "torch")


def test_many_threads_with_many_thresholds(backend: str, weights: Path, built: list[str]) -> None:
    detector = load(weights)
    scores = (0.2, 0.35, 0.5, 0.65)
    alone = {score: found(detector, backend, score) for score in scores}
    built.clear()
    calls = [scores[(thread + call) % 4] for thread in range(8) for call in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for score, result in zip(calls, pool.map(lambda score: found(detector, backend, score), calls), strict=True):
            assert result == alone[score]
    assert built == []


@pytest.mark.parametrize("copied", [lambda it: pickle.loads(pickle.dumps(it)), copy.deepcopy, copy.copy])  # noqa: S301
def test_pickles_and_copies(backend: str, copied: Callable[[Detector], Detector], weights: Path) -> None:
    """Copies of one that was used, and of one that was not; each engine is compiled, so there are no more than that."""
    detector = load(weights)
    unused = copied(detector)
    expected = found(detector, backend)
    assert found(unused, backend) == expected
    assert found(copied(copied(detector)), backend) == expected
    assert found(detector, backend) == expected


def test_copies_take_a_changed_network_along(backend: str, weights: Path) -> None:
    detector = load(weights)
    before = found(detector, backend)
    with torch.no_grad():
        for parameter in detector.network.parameters():
            parameter.mul_(1.2)
    for other in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):  # noqa: S301
        assert found(other, backend) == found(detector, backend) != before
    other.network.load_state_dict(load(weights).network.state_dict())
    assert found(other, backend) == before
    assert found(detector, backend) != before


def test_pickles_hold_the_path_whatever_the_folder(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(weights.parent)
    detector = load(weights.name)
    data = pickle.dumps(detector)
    assert len(data) < 20_000
    monkeypatch.chdir(weights.parent.parent)
    assert found(pickle.loads(data), "torch")  # noqa: S301


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_forked_children_predict_and_end(backend: str, weights: Path) -> None:
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import toy
from singleshot import load
toy.register()
import torch
torch.set_num_threads(2)
detector = load({str(weights)!r})
def counts():
    many = detector.predict([toy.noise()] * 3, backend={backend!r}, precision="fp32")
    return [len(detector.predict(toy.noise(), backend={backend!r}, precision="fp32")), *map(len, many)]
before = counts()
torch.ones(4000, 4000).sum()  # has OpenMP make its team of threads
for uses in (True, False):
    child = os.fork()
    if child == 0:
        if uses:
            assert counts() == before
            detector.network
            assert counts() == before
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert counts() == before
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=200)


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_a_damaged_int8_file(precision: str, fresh: Path, messages: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("openvino")
    package = compiled_file("openvino", fresh)
    path = int8_path(fresh)
    info = package.info.model_copy(update={"quantized": True})
    whole = replace(package, info=info).save(path).read_bytes()
    place = whole.rindex(b"model.bin", 0, whole.index(b"PK\x01\x02")) + 100  # of its data, not of the digests
    for content in (whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :], whole[:50], b""):
        path.write_bytes(content)
        messages.clear()
        detector = load(fresh)
        if precision == "int8":
            with pytest.raises((ConfigError, WeightsError), match=r"singleshot quantize .* --overwrite") as caught:
                detector.predict(noise(), backend="openvino", precision="int8")
            assert str(path) in str(caught.value)
        else:
            for _ in range(2):
                assert "int8" not in detector.predictor(backend="openvino").backend.name
            (said,) = [r.getMessage() for r in messages.records if r.levelname == "WARNING"]
            assert str(path) in said
            assert said.count(f"singleshot quantize {fresh}") == 1


def test_a_graph_that_the_engine_cannot_read_is_named(fresh: Path) -> None:
    pytest.importorskip("openvino")
    package = compiled_file("openvino", fresh)
    info = package.info.model_copy(update={"quantized": True})
    replace(package, info=info, parts=(b"<net/>", b"")).save(int8_path(fresh))
    with pytest.raises(WeightsError, match="OpenVINO cannot read"):
        load(fresh).predict(noise(), backend="openvino", precision="int8")
    assert "int8" not in load(fresh).predictor(backend="openvino").backend.name


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_a_damaged_cache_entry_is_said_and_made_anew(
    kind: Kind, fresh: Path, tmp_path: Path, messages: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(MODULES[kind])
    expected, package = found(load(fresh), kind), compiled_file(kind, fresh)
    (entry,) = (tmp_path / "cache" / "compiled").iterdir()
    whole = entry.read_bytes()
    monkeypatch.setattr("singleshot.export.compiled.convert_file", lambda *_: package)  # a conversion takes seconds
    for content in (whole[:200] + bytes(40) + whole[240:], whole[: len(whole) // 2], b"", b"nonsense" * 100):
        entry.write_bytes(content)
        messages.clear()
        assert compiled_file(kind, fresh) is package
        assert str(entry) in messages.text
        assert read_package(entry).info.parts_sha256
    messages.clear()
    assert found(load(fresh), kind) == expected
    assert not messages.records


def test_few_numbers_written_past_torch_need_a_refresh(weights: Path) -> None:
    detector = load(weights)
    assert found(detector, "torch")
    for name, parameter in detector.network.named_parameters():
        if name.endswith("logits.0.weight") or "logits" in name:
            parameter.data.zero_()
    detector.refresh()
    assert found(detector, "torch", 0.5) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64])
def test_the_watch_sees_any_place_of_a_small_tensor(dtype: torch.dtype) -> None:
    network = torch.nn.Module()
    network.register_buffer("numbers", torch.arange(200).to(dtype).reshape(10, 20).t())
    network.register_buffer("none", torch.empty(0))
    for place in range(200):
        watch = Watch(network)
        assert not watch.has_changed(network)
        network.numbers.data[place % 20, place // 20] += 300
        assert watch.has_changed(network)


def test_evaluations_in_training_see_what_was_learnt(weights: Path) -> None:
    detector = load(weights)
    network, spec = copy.deepcopy(detector.network), detector.spec
    batch = np.random.default_rng(0).normal(0, 1, (2, 3, 96, 128)).astype(np.float32)
    seen = []
    for _ in range(3):
        now = network_backend(network, spec, spec.postprocess).predict(batch).found
        plain = Detector(spec, network.state_dict()).predictor(spec.postprocess.score_threshold, backend="torch")
        other = plain.detect(batch)
        np.testing.assert_allclose(now.scores, other.scores, atol=1e-6)
        np.testing.assert_array_equal(now.class_ids, other.class_ids)
        seen.append(now.scores)
        network.train()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        sum(part.square().mean() for part in network(torch.from_numpy(batch))).backward()
        optimizer.step()
        network.eval()
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])


def test_a_failure_reaches_all_that_wait_and_is_tried_again() -> None:
    once, tries = Once(), []

    def make() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise WeightsError("no")
        return 7

    with pytest.raises(WeightsError):
        once.get("key", make)
    assert once.get("key", make) == once.get("key", make) == 7
    assert len(tries) == 2
