"""The SSD paper's comparison of sources: six descriptions of detectors, and one of them trained."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import singleshot
from singleshot.demo.scenes import make_scenes
from singleshot.models.catalogue import model_spec
from singleshot.models.description import describe, read_description
from singleshot.models.summary import summarise
from singleshot.weights.file import read_spec

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "ablation"
BOXES = {
    "conv4_3_to_conv11_2": 8732,
    "conv4_3_to_conv10_2": 8728,
    "conv4_3_to_conv9_2": 8692,
    "conv4_3_to_conv8_2": 8542,
    "conv4_3_conv7": 7942,
    "conv7_only": 2166,
}


def test_every_file_is_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(BOXES)


@pytest.mark.parametrize(("name", "boxes"), BOXES.items())
def test_boxes(name: str, boxes: int) -> None:
    spec = describe(read_description(FOLDER / f"{name}.yaml"), ["a"])
    assert (spec.name, summarise(spec).anchors) == (name, boxes)


def test_all_six_sources_are_ssd300() -> None:
    ours = describe(read_description(FOLDER / "conv4_3_to_conv11_2.yaml"), ["a"])
    theirs = model_spec("ssd300_vgg16", ["a"])
    assert ours.network.model_copy(update={"backbone": theirs.network.backbone}) == theirs.network
    for part in ("coder", "preprocess", "postprocess"):
        assert getattr(ours, part) == getattr(theirs, part)
    for a, b in zip(ours.anchors.levels, theirs.anchors.levels, strict=True):
        assert a.step_hw == pytest.approx(b.step_hw)
        assert [side for box in a.shapes_wh for side in box] == pytest.approx(
            [side for box in b.shapes_wh for side in box]
        )
    assert ours.anchors.reference_hw == theirs.anchors.reference_hw


def test_one_trains(tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path / "scenes", count=8, size_hw=(64, 64))
    result = singleshot.train(
        scenes, FOLDER / "conv7_only.yaml", "none", steps=2, size=64, batch_size=2, val="none", out=tmp_path / "run",
        settings={"workers": 0, "amp": "fp32"}, console=Console(file=io.StringIO()),
    )  # fmt: skip
    spec = read_spec(result.last)
    assert (result.steps, spec.name, spec.network.backbone.taps) == (2, "conv7_only", ("relu7",))
