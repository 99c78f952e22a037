"""Cases of measuring: classes that differ by case only, held-out splits without an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perfect import Perfect
from singleshot import data
from singleshot.cli import app
from singleshot.data.train_val import open_held_out
from singleshot.detector import Detector
from singleshot.evaluation.evaluate import evaluate_predictor
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec


def untrained(path: Path, class_names: list[str]) -> Path:
    """A weights file of a detector with these classes."""
    spec = model_spec("ssdlite300_mobilenet_v2", class_names, (96, 96))
    return Detector(spec, build_network(spec.network).state_dict()).save(path)


def check_classes_differ_by_case(case: Path) -> None:
    dataset = data.open(case / "data")
    assert sorted(dataset.class_map.names) == ["A", "B", "a", "b"]
    result = evaluate_predictor(Perfect(dataset), dataset)  # type: ignore[arg-type]
    assert (result.only_model, result.only_data, result.loose) == ((), (), ())
    assert result.voc_area == 1
    assert result.coco["AP"] == pytest.approx(1)
    weights = untrained(case / "model.safetensors", ["b", "A", "a", "B"])
    outcome = CliRunner().invoke(app, ["eval", str(weights), str(case / "data"), "--backend", "torch"])
    assert outcome.exit_code == 0, outcome.output
    assert "Left out" not in outcome.output
    assert "spelt differently" not in outcome.output


def check_voc_empty_test_list(case: Path) -> None:
    dataset = open_held_out(case / "data")
    assert dataset.split == "val"
    assert len(dataset) > 0
    weights = untrained(case / "model.safetensors", list(dataset.class_map.names))
    outcome = CliRunner().invoke(app, ["eval", str(weights), str(case / "data"), "--backend", "torch"])
    assert outcome.exit_code == 0, outcome.output
    assert "split val" in outcome.output
    asked = CliRunner().invoke(app, ["eval", str(weights), str(case / "data"), "--split", "test"])
    assert asked.exit_code == 2, asked.output


CASES: dict[str, Callable[[Path], None]] = {
    "cases/classes-differ-by-case": check_classes_differ_by_case,
    "cases/voc-empty-test-list": check_voc_empty_test_list,
}
