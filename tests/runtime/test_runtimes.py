"""Runtimes of other packages: one file and an entry point, and `predict` runs them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from toy import noise

from singleshot.detector import load
from singleshot.errors import ConfigError, MissingExtraError
from singleshot.runtime import choose, engines
from singleshot.runtime.choose import check_wish, choose_plan
from singleshot.runtime.registry import RUNTIMES, Plan, Wish, only_torch
from singleshot.runtime.source import Source, StoredNetwork

pytestmark = pytest.mark.usefixtures("cache_folder")

MODULE = '''
import numpy as np
from singleshot.errors import ConfigError
from singleshot.core.postprocess import PaddedDetections
from singleshot.runtime.base import TimedDetections
from singleshot.runtime.registry import only_torch

opened = []


class CornerEngine:
    """Finds one object in the upper left quarter of every image."""

    name, device, parallel = "corner fp32", "cpu", 1

    def __init__(self, size_hw):
        self.box = np.array([0, 0, size_hw[1] / 2, size_hw[0] / 2], np.float32)

    def predict(self, batch, settings):
        count, has_one = len(batch), settings.score_threshold <= 0.75
        boxes = np.tile(self.box, (count, 1, 1))
        scores = np.full((count, 1), 0.75, np.float32)
        ids, counts = np.zeros((count, 1), np.int64), np.full(count, int(has_one), np.int64)
        return TimedDetections(PaddedDetections(boxes, scores, ids, counts))


class CornerRuntime:
    devices, is_parallel, reason = ("cpu",), False, None

    def available(self):
        return self.reason

    def fits(self, wish):
        return only_torch(wish, "corner")

    def precisions(self, device):
        return ("fp32",)

    def open(self, source, plan):
        opened.append(plan)
        return CornerEngine(source.spec.preprocess.size_hw)


corner = CornerRuntime()
'''


@pytest.fixture
def corner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with a runtime, and a registry that has not looked for any yet."""
    (tmp_path / "corner_runtime.py").write_text(MODULE)
    metadata = tmp_path / "corner_runtime-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: corner-runtime\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[singleshot.runtimes]\ncorner = corner_runtime:corner\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(RUNTIMES, "_entries", None)
    monkeypatch.setattr(RUNTIMES, "_loaded", {})
    yield
    sys.modules.pop("corner_runtime", None)


@pytest.mark.usefixtures("corner")
def test_a_runtime_of_another_package_predicts(weights: Path) -> None:
    detector = load(weights)
    found = detector.predict(noise(), backend="corner")
    assert found.boxes_xyxy.tolist() == [[0, 0, 30, 20]]
    assert found.names == ["cat"]
    assert len(detector.predict(noise(), 0.9, backend="corner")) == 0
    assert [len(found) for found in detector.predict([noise()] * 3, backend="corner")] == [1, 1, 1]
    assert sys.modules["corner_runtime"].opened == [Plan("corner")]  # one engine for all of them
    with pytest.raises(ConfigError, match="`precision='int8'`: corner does not compute in it on cpu; use 'fp32'"):
        detector.predict(noise(), backend="corner", precision="int8")
    with pytest.raises(ConfigError, match="`device='mps'` goes with `backend='torch'`, not 'corner'"):
        detector.predict(noise(), backend="corner", device="mps")


@pytest.mark.usefixtures("corner")
def test_its_reason_is_what_people_read(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RUNTIMES.get("corner"), "reason", MissingExtraError("corner", "corner", "`backend='corner'`"))
    with pytest.raises(MissingExtraError, match="`backend='corner'` needs the package 'corner'"):
        load(weights).predict(noise(), backend="corner")


def test_without_the_package_there_is_none(weights: Path) -> None:
    with pytest.raises(ConfigError, match="`backend='corner'`: unknown; choose from auto, torch, openvino, onnx"):
        load(weights).predict(noise(), backend="corner")


@pytest.mark.parametrize("name", ["torch", "openvino", "onnx"])
def test_each_of_ours(name: str) -> None:
    runtime = RUNTIMES.get(name)
    assert runtime.available() is None or isinstance(runtime.available(), MissingExtraError)
    assert runtime.fits(Wish(name)) is None
    assert "fp32" in runtime.precisions("cpu") if runtime.available() is None else True
    assert (runtime.fits(Wish(name, device="cuda")) is None) == ("cuda" in runtime.devices)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(), None),
        (Wish(device="cpu"), None),
        (Wish(device="cuda"), "`device='cuda'`"),
        (Wish(compile=True), "`compile=True`"),
    ],
)
def test_what_only_torch_can(wish: Wish, message: str | None) -> None:
    assert (only_torch(wish, "x") or "").startswith(message or "")
    assert (only_torch(wish, "x") is None) == (message is None)


def test_plans_are_frozen_and_equal_ones_share_an_engine(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "has_gpu", lambda: False)
    detector = load(weights)
    first = detector.predictor(backend="torch", device="cpu").backend
    second = detector.predictor(backend="torch", device="cpu", precision="fp32", images=1).backend
    assert first.engine is second.engine  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        Plan("torch").device = "cuda"  # type: ignore[misc]


def test_a_choice_builds_nothing(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoredNetwork, "get", lambda self: pytest.fail("the network was built"))
    spec = load(weights).spec
    source = Source(spec, weights, StoredNetwork(spec, weights))
    for wish in (Wish(), Wish("torch"), Wish("torch", "bf16", device="cpu")):
        assert choose_plan(source, wish).runtime in RUNTIMES
    with pytest.raises(ConfigError, match="`precision='int8'` runs with"):
        check_wish(Wish("torch", "int8"))
    assert check_wish(Wish(device="cuda")).device == "cuda"


def test_the_chooser_is_visited_once(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visits: list[Wish] = []
    monkeypatch.setattr(
        engines, "choose_plan", lambda source, wish: (visits.append(wish), choose_plan(source, wish))[1]
    )
    detector = load(weights)
    for _ in range(3):
        detector.predict(noise(), backend="torch")
    detector.predict([noise(), noise()], backend="torch")
    assert len(visits) == len(set(visits)) == 2
