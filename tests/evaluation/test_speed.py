"""``singleshot benchmark`` and ``quantize`` as a user runs them, with a backend that needs no time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from singleshot.cli import app
from singleshot.core.postprocess import PaddedDetections
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError
from singleshot.evaluation import speed
from singleshot.runtime.base import TimedDetections
from singleshot.runtime.registry import Wish


class Quick:
    """Finds nothing, at once; int8 is missing."""

    parallel = 2
    name = "quick fp32"

    def predict(self, batch: np.ndarray) -> TimedDetections:
        none = np.zeros((len(batch), 0), np.float32)
        counts = np.zeros(len(batch), np.int64)
        return TimedDetections(PaddedDetections(none[..., None].repeat(4, 2), none, none.astype(np.int64), counts))


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(self: Detector, wish: object, settings: object) -> Quick:
        if wish.precision == "int8":  # type: ignore[attr-defined]
            raise ConfigError("no int8 file")
        return Quick()

    monkeypatch.setattr(Detector, "_backend", backend)
    monkeypatch.setattr(speed, "peak_gflops", lambda precision: 100.0)


@pytest.mark.usefixtures("_quick")
def test_a_table_and_a_file(tmp_path: Path) -> None:
    target = tmp_path / "speed.json"
    arguments = ["benchmark", "coco", "--seconds", "0.1", "--batch", "1", "--batch", "2", "--json", str(target)]
    result = CliRunner().invoke(app, [*arguments, "--backend", "openvino"])
    assert result.exit_code == 0, result.output
    assert "no int8 file" in result.output
    assert "matrix product: fp32 100 GFLOP/s" in result.output
    document = json.loads(target.read_text())
    rows = document["rows"]
    assert [(row["backend"], row["batch_size"]) for row in rows] == [
        ("quick fp32", 1), ("quick fp32", 2), ("quick fp32", 1), ("quick fp32", 2), ("openvino int8", 1),
    ]  # fmt: skip
    assert rows[-1]["skipped"] == "no int8 file"
    assert all(row["images_per_s"] > 0 for row in rows[:-1])
    assert document["machine"]["cores"] >= 1


def test_devices_and_compilation_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only torch can is asked of torch alone; other backends have no row for a GPU."""
    asked = []

    def backend(self: Detector, wish: Wish, settings: object) -> Quick:
        asked.append((wish.backend, wish.device, wish.compile))
        return Quick()

    monkeypatch.setattr(Detector, "_backend", backend)
    detector, pairs = load("coco"), (("torch", "bf16"), ("openvino", "bf16"))
    rows = list(speed.measure_all(detector, (1,), pairs, "auto", True, 0.01))
    assert [row.peak for row in rows] == ["fp32", "fp32"]
    assert set(asked) == {("torch", "auto", True), ("openvino", "auto", False)}
    asked.clear()
    assert len(list(speed.measure_all(detector, (1,), pairs, "cuda", seconds=0.01))) == 1
    assert set(asked) == {("torch", "cuda", False)}


def test_peaks_are_those_of_the_device() -> None:
    assert speed.Row("torch bf16 cuda", 1, device="cuda").peak == "bf16 cuda"
    assert speed.Row("openvino int8", 1).peak == "fp32"
    assert speed.peak_gflops("bf16", seconds=0.01) > 0


def test_flops_of_the_bundled_network() -> None:
    assert 1.4e9 < speed.network_flops(load("coco")) < 1.7e9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["benchmark", "coco", "--backend", "tpu"], "--backend tpu"),
        (["benchmark", "missing.safetensors"], "missing.safetensors"),
        (["benchmark", "coco", "--device", "gpu"], "--device gpu: unknown"),
        (["benchmark", "coco", "--backend", "onnx", "--compile"], "--compile goes with --backend torch"),
        (["quantize", "coco", "nowhere"], "nowhere"),
        (["quantize", "coco", ".", "--backend", "torch"], "choose from openvino, onnx"),
    ],
)
def test_mistakes(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.usefixtures("_quick")
def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    target = tmp_path / "speed.json"
    target.write_text("mine")
    arguments = ["benchmark", "coco", "--seconds", "0.1", "--batch", "1", "--backend", "onnx", "--json", str(target)]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "speed.json: exists already" in refused.output
    assert "quick" not in refused.output  # said before the work
    assert target.read_text() == "mine"
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0
    assert json.loads(target.read_text())["rows"]


@pytest.mark.usefixtures("_quick")
def test_the_weights_are_never_replaced(tmp_path: Path) -> None:
    weights = load("coco").save(tmp_path / "own.safetensors")
    before = weights.read_bytes()
    result = CliRunner().invoke(app, ["benchmark", str(weights), "--json", str(weights), "--overwrite"])
    assert result.exit_code == 2
    assert "source" in result.output
    assert weights.read_bytes() == before


@pytest.mark.usefixtures("_quick")
def test_nothing_measured_is_no_success(tmp_path: Path) -> None:
    target = tmp_path / "speed.json"
    arguments = ["benchmark", "coco", "--backend", "onnx", "--precision", "int8", "--json", str(target)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "no int8 file" in result.output
    assert "Nothing was measured" in result.output
    assert not target.exists()


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--batch", "0", "--batch-size must be a whole number of images in 1..1024"),
        ("--batch", "99999999999", "--batch-size must be a whole number of images in 1..1024"),
        ("--seconds", "inf", "--seconds must be a number of seconds, not inf"),
    ],
)
def test_numbers_that_make_no_sense(option: str, value: str, message: str) -> None:
    result = CliRunner().invoke(app, ["benchmark", "coco", "--seconds", "0.1", option, value])
    assert result.exit_code == 2
    assert message in result.output
