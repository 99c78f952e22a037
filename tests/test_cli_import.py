"""``singleshot import`` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import singleshot
from singleshot.cli import app
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.weights.importers import importers
from singleshot.weights.importers.torchvision import BOXES, LOGITS

run = CliRunner().invoke


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Random numbers under torchvision's names."""
    module = importers()["torchvision"]
    spec = model_spec("ssdlite320_mobilenet_v3_large", ["red", "green"])
    own = build_network(spec.network).state_dict()
    shapes = {f"{BOXES}0.1.weight": (24, 1), f"{LOGITS}0.1.weight": (18, 1)}
    rename = module.translate(shapes, "x").rename
    torch.save({rename(name): value for name, value in own.items()} | {"extra": torch.zeros(1)}, tmp_path / "tv.pth")
    return tmp_path / "tv.pth"


def test_a_checkpoint_becomes_a_weights_file(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("red\ngreen\n\n")
    result = run(app, ["import", str(checkpoint), "--classes", "names.txt", "--verbose"])
    assert result.exit_code == 0, result.output
    for text in ("torchvision", "2: red, green", "1: extra", "3234 anchors", "Wrote tv.safetensors", "<- backbone."):
        assert text in result.output
    assert singleshot.load("tv.safetensors").class_names == ("red", "green")


def test_pixels_of_the_user(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    result = run(app, ["import", str(checkpoint), "--out", str(out), "--mean", "100,110,120", "--scale", "0.5"])
    assert result.exit_code == 0, result.output
    preprocess = singleshot.load(out).spec.preprocess
    assert (preprocess.scale, preprocess.mean) == (0.5, (50.0, 55.0, 60.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.pth"], "no such file or folder"),
        (["tv.pth", "--from", "darknet"], "no importer 'darknet'"),
        (["tv.pth", "--from", "lufficc"], "not of lufficc"),
        (["tv.pth", "--classes", "none.txt"], "cannot be read"),
        (["tv.pth", "--mean", "1,x"], "give one number, or three"),
        (["notes.txt"], "not recognised"),
    ],
)
def test_mistakes_write_nothing(
    arguments: list[str], message: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    Path("notes.txt").write_text("hello")
    result = run(app, ["import", *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert not list(Path().glob("*.safetensors"))
