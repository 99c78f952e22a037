"""``singleshot import`` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import singleshot
from singleshot.cli import app
from singleshot.cli.import_ import default_name
from singleshot.errors import OutputError
from singleshot.interop.pytorch.torchvision import BOXES, LOGITS, translate
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec

run = CliRunner().invoke


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Random numbers under torchvision's names."""
    spec = model_spec("ssdlite320_mobilenet_v3_large", ["red", "green"])
    own = build_network(spec.network).state_dict()
    shapes = {f"{BOXES}0.1.weight": (24, 1), f"{LOGITS}0.1.weight": (18, 1)}
    rename = translate(shapes, "x").rename
    torch.save({rename(name): value for name, value in own.items()} | {"extra": torch.zeros(1)}, tmp_path / "tv.pth")
    return tmp_path / "tv.pth"


def test_a_checkpoint_becomes_a_weights_file(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("red\ngreen\n\n")
    result = run(app, ["import", str(checkpoint), "--classes", "names.txt", "--verbose"])
    assert result.exit_code == 0, result.output
    for text in (
        "torchvision",
        "2: red, green",
        "1: extra",
        "3,234 default boxes",
        "Wrote tv.safetensors",
        "<- backbone.",
    ):
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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tv.pth", "tv.safetensors"),
        ("ssd-Epoch-99-Loss-2.7123.pth", "ssd-Epoch-99-Loss-2.7123.safetensors"),
        ("ssd-Epoch-99-Loss-2.8001.pth", "ssd-Epoch-99-Loss-2.8001.safetensors"),
        ("model_best.pth.tar", "model_best.safetensors"),
        ("ssd300_mAP_77.43_v2.pth", "ssd300_mAP_77.43_v2.safetensors"),
        ("mine.safetensors", "mine-imported.safetensors"),
        ("v1.2.SAFETENSORS", "v1.2-imported.safetensors"),
        ("ssd_300-symbol.json", "ssd_300.safetensors"),
        ("deploy.prototxt.txt", "deploy.safetensors"),
        ("weights", "weights.safetensors"),
        (".pth", ".pth.safetensors"),
    ],
)
def test_default_names_differ_where_the_checkpoints_do(name: str, expected: str) -> None:
    assert default_name(Path(name)) == expected


def test_a_folder_keeps_its_whole_name(tmp_path: Path) -> None:
    (tmp_path / "run.pth").mkdir()
    assert default_name(tmp_path / "run.pth") == "run.pth.safetensors"


def test_nothing_is_overwritten_unasked(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = checkpoint.read_bytes()
    (tmp_path / "tv.safetensors").write_bytes(b"somebody's")
    result = run(app, ["import", "tv.pth"])
    assert (result.exit_code, Path("tv.safetensors").read_bytes()) == (2, b"somebody's")
    assert "name another file with --out" in result.output
    Path("link.safetensors").symlink_to(checkpoint)
    for out in ("tv.pth", "./sub/../tv.pth", "link.safetensors"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        result = run(app, ["import", "tv.pth", "--out", out, "--overwrite"])
        assert result.exit_code == 2
        assert checkpoint.read_bytes() == before
    assert run(app, ["import", "tv.pth", "--overwrite"]).exit_code == 0
    assert len(singleshot.load("tv.safetensors").class_names) == 2
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["link.safetensors", "tv.safetensors"]


def test_a_safetensors_keeps_its_bytes(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(torch.load(checkpoint), "mine.safetensors")
    before = Path("mine.safetensors").read_bytes()
    assert run(app, ["import", "mine.safetensors"]).exit_code == 0
    assert Path("mine.safetensors").read_bytes() == before
    assert Path("mine-imported.safetensors").is_file()
    with pytest.raises(OutputError, match="is a source"):
        singleshot.import_weights("mine.safetensors", out="mine.safetensors", overwrite=True)
    assert Path("mine.safetensors").read_bytes() == before


def test_a_draft_that_fails_its_check_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = torch.load(checkpoint)
    torch.save({name: value * 1e30 for name, value in state.items()}, checkpoint)
    result = run(app, ["import", "tv.pth", "--out", "x.safetensors"])
    assert result.exit_code == 2
    assert "x.safetensors: outputs are not finite" in result.output
    assert not list(tmp_path.glob("*.safetensors")) + list(tmp_path.glob(".*.safetensors"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_class_names_in_any_encoding(
    encoding: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_bytes("\r\nrouge \r\n\r\nvert été\r\n".encode(encoding))
    result = run(app, ["import", "tv.pth", "--classes", "names.txt"])
    assert result.exit_code == 0, result.output
    assert singleshot.load("tv.safetensors").class_names == ("rouge", "vert été")
    assert ("read as" in result.output) == (encoding in ("utf-16-le", "cp1252"))


def test_a_background_in_front_is_no_class(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("BACKGROUND\nred\ngreen\n")
    assert run(app, ["import", "tv.pth", "--classes", "labels.txt"]).exit_code == 0
    assert singleshot.load("tv.safetensors").class_names == ("red", "green")


def test_names_are_shown_as_they_are(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = torch.load(checkpoint)
    torch.save(state | {"[/b]": torch.zeros(1), "[relu]": torch.zeros(1), "\x1b[2J": torch.zeros(1)}, checkpoint)
    result = run(app, ["import", "tv.pth", "--verbose"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "[/b], [relu], \\x1b[2J" in result.output
    assert "\x1b[2J" not in result.output
