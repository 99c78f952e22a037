"""``singleshot eval``: what it says about the images that it measures on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from singleshot.cli import app
from singleshot.demo.scenes import make_scenes
from singleshot.weights.bundled import bundled_path


@pytest.fixture(scope="module")
def heap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images without splits, some of a class that the bundled detector knows."""
    folder = make_scenes(tmp_path_factory.mktemp("data") / "scenes", count=12, size_hw=(120, 160))
    shutil.rmtree(folder / "ImageSets")
    (folder / "classes.txt").unlink()
    for path in (folder / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<name>mug<", "<name>cup<"))
    return folder


@pytest.mark.parametrize(
    ("weights", "options", "warns"),
    [
        ("coco", [], False),
        ("file", [], True),
        ("file", ["--split", "all"], False),
        ("file", ["--split", "train"], False),
    ],
)
def test_measuring_on_what_was_learnt_is_noted(heap: Path, weights: str, options: list[str], warns: bool) -> None:
    name = str(bundled_path("coco")) if weights == "file" else weights
    result = CliRunner().invoke(app, ["eval", name, str(heap), "--metric", "voc", "--backend", "torch", *options])
    assert result.exit_code == 0, result.output
    assert ("which training leaves out; --split all" in " ".join(result.output.split())) is warns


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "gpu"], "--device gpu: unknown"),
        (["--device", "cuda", "--backend", "openvino"], "--device cuda goes with --backend torch"),
        (["--compile", "--backend", "onnx"], "--compile goes with --backend torch"),
    ],
)
def test_what_runs_where(heap: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["eval", "coco", str(heap), *options])
    assert result.exit_code == 2
    assert message in result.stderr
