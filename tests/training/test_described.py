"""A detector described in YAML is trained: the example of docs/train.md, from the command to the weights file."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from typer.testing import CliRunner

import singleshot
from singleshot.cli import app
from singleshot.core.files import write_atomically
from singleshot.demo.scenes import make_scenes
from singleshot.errors import ConfigError
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.description import describe
from singleshot.training.recipes import read_config
from singleshot.weights.file import read_spec, read_state, save_weights

DOCS = Path(__file__).resolve().parents[2] / "docs" / "train.md"
QUICK: dict[str, Any] = {"workers": 0, "amp": "fp32", "evaluation.every": 0}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes", count=10, size_hw=(96, 128))


def example() -> str:
    return next(
        block for block in re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL) if "backbone:" in block
    )


def train(*args: Any, **options: Any) -> singleshot.training.result.TrainResult:
    return singleshot.train(*args, settings=QUICK, console=Console(file=io.StringIO()), batch_size=2, **options)


def test_the_example_trains_is_kept_and_resumes(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("detector.yaml").write_text(example())
    options = ["--workers", "0", "--amp", "fp32", "--batch", "2"]
    command = ["train", str(scenes), "--model", "detector.yaml", "--weights", "none", "--out", "run", *options]
    result = CliRunner().invoke(app, [*command, "--steps", "2"])
    assert result.exit_code == 0, result.output
    assert "detector, input 96 x 128 (height x width)" in result.output
    spec = read_spec("run/last.safetensors")
    assert spec == describe(
        {"name": "detector"} | yaml.safe_load(example()), singleshot.data.open(scenes).class_map.names
    ).model_copy(update={"provenance": spec.provenance, "objects": spec.objects})
    assert singleshot.load("run/last.safetensors").predict(np.zeros((50, 60, 3), np.uint8)).class_names
    kept = read_config(Path("run/config.yaml"))
    assert kept.model == {"name": "detector"} | yaml.safe_load(example())

    again = ["train", "--resume", "--out", "run", "--steps", "3"]
    assert CliRunner().invoke(app, [*again, "--model", "detector.yaml"]).exit_code == 0
    Path("detector.yaml").write_text(example().replace("out_channels: 64", "out_channels: 32"))
    result = CliRunner().invoke(app, [*again, "--model", "detector.yaml"])
    assert result.exit_code == 2
    assert "model.extras: the run in run has" in result.output
    Path("detector.yaml").unlink()  # the run's settings stand on their own
    result = CliRunner().invoke(app, ["train", "--recipe", "run/config.yaml", "--out", "second", "--steps", "1"])
    assert result.exit_code == 0, result.output
    assert read_spec("second/last.safetensors").network == spec.network


def test_python_takes_specs_and_mappings(scenes: Path, tmp_path: Path) -> None:
    spec = model_spec("ssdlite300_mobilenet_v2", ["others"], (64, 64)).model_copy(update={"name": "mine"})
    one = train(scenes, spec, "none", steps=1, out=tmp_path / "spec", val="none")
    assert (read_spec(one.last).name, read_spec(one.last).network.head.logits) == ("mine", 6)
    two = train(scenes, {"backbone": "resnet18", "size_hw": 64}, "none", steps=1, out=tmp_path / "map", val="none")
    assert read_spec(two.last).name == "described"


def test_the_backbone_starts_from_imagenet(scenes: Path, tmp_path: Path) -> None:
    description = {"backbone": "resnet18", "size_hw": 64, "extras": [32]}
    public = build_network(describe(description, ["a"]).network).backbone.state_dict()
    weights = save_weights(tmp_path / "resnet18.safetensors", describe(description, ["a"]), public)
    console = Console(file=io.StringIO(), width=200)
    result = singleshot.train(
        scenes, description, f"imagenet:{weights}", steps=1, batch_size=2, val="none", out=tmp_path / "run",
        settings=QUICK, console=console,
    )  # fmt: skip
    assert result.steps == 1
    assert f"{len(public)} of " in console.file.getvalue()  # type: ignore[attr-defined]


def test_basenet_is_an_imagenet_file(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("detector.yaml").write_text("{backbone: {name: vgg16_reduced, taps: [relu2_2]}, size_hw: 64}")
    torch.save(
        {
            f"{number}.{kind}": torch.zeros(*shape) if kind == "weight" else torch.ones(shape[0])
            for number, shape in {0: (64, 3, 3, 3), 2: (64, 64, 3, 3), 5: (128, 64, 3, 3), 7: (128, 128, 3, 3)}.items()
            for kind in ("weight", "bias")
        },
        "vgg16_reducedfc.pth",
    )
    command = ["train", str(scenes), "--model", "detector.yaml", "--basenet", "vgg16_reducedfc.pth", "--steps", "1"]
    options = ["--workers", "0", "--amp", "fp32", "--batch", "2", "--val", "none", "--set", "optimizer.lr=1e-9"]
    result = CliRunner().invoke(app, [*command, *options, "--out", "run"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "8 of 12 tensors from imagenet:vgg16_reducedfc.pth" in result.output
    assert "reads RGB 0..255 minus (123, 117, 104), as this detector does" in result.output
    assert float(read_state("run/last.safetensors")["backbone.conv2_2.bias"].mean()) == pytest.approx(1, abs=1e-4)

    result = CliRunner().invoke(app, [*command, "--weights", "imagenet"])
    assert result.exit_code == 2
    assert "keep one" in result.output
    result = CliRunner().invoke(app, ["train", str(scenes), "--basenet", "vgg16_reducedfc.pth", "--out", "other"])
    assert result.exit_code == 2, result.output
    assert "not ImageNet weights of the backbone 'mobilenet_v2_tf'" in " ".join(result.output.split())
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backbone: resnet19", r"detector\.yaml: backbone\.name: no backbone 'resnet19'"),
        ("backbone: resnet18\nneck: {chanels: 3}", r"neck\.chanels: no such setting; did you mean 'channels'"),
    ],
)
def test_a_wrong_description_is_refused_before_the_data_is_read(tmp_path: Path, text: str, message: str) -> None:
    path = write_atomically(tmp_path / "detector.yaml", text)
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "nowhere", path, steps=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_wrong_description_in_a_recipe_is_refused(tmp_path: Path) -> None:
    recipe = write_atomically(tmp_path / "recipe.yaml", "model: {backbone: resnet18, extras: [x]}\nsteps: 1")
    with pytest.raises(ConfigError, match=r"model: 1 wrong setting\n  extras\.0: must be a mapping"):
        train(tmp_path / "nowhere", recipe=recipe, out=tmp_path / "run")
