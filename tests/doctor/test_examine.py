"""``examine`` and its verb on real files: with and without a model, the page, JSON, exit codes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import singleshot
from singleshot.cli import app
from singleshot.demo.scenes import make_scenes
from singleshot.errors import OutputError
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.heads.multibox import set_class_prior
from singleshot.weights.file import save_weights


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures: one is there twice, one box is there twice, one file is broken behind its header."""
    folder = make_scenes(tmp_path_factory.mktemp("data") / "scenes & <co>", count=5, seed=3, size_hw=(96, 128))
    images = folder / "JPEGImages"
    shutil.copy(images / "scene_00001.jpg", images / "copy.jpg")
    xml = (folder / "Annotations" / "scene_00001.xml").read_text()
    (folder / "Annotations" / "copy.xml").write_text(xml.replace("scene_00001", "copy"))
    for number in folder.glob("ImageSets/Main/*.txt"):
        number.write_text(f"{number.read_text().rstrip()}\ncopy\n" if number.stem == "train" else number.read_text())
    broken = images / "scene_00002.jpg"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 3])
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    names = singleshot.data.open(scenes).class_map.names
    spec = model_spec("ssdlite300_mobilenet_v2", names, (96, 96))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    network = build_network(spec.network)
    set_class_prior(network.head)  # hardly a detection: what is found does not matter here
    save_weights(path, spec, network.state_dict())
    return path


def test_without_a_model(scenes: Path) -> None:
    found = singleshot.examine(scenes)
    kinds = {item.kind for item in found.findings}
    assert "unreadable-image" in kinds
    assert kinds & {"leak", "twin-images"}
    assert found.left_out == 1
    assert found.images == 5
    assert not kinds & {"wrong-class", "threshold", "uncovered"}


def test_the_verb(scenes: Path, weights: Path, tmp_path: Path) -> None:
    table, page = tmp_path / "all.json", tmp_path / "page"
    arguments = ["doctor", str(scenes), str(weights), "--device", "cpu", "--json", str(table), "--out", str(page)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1, done.output  # a picture is broken
    assert f"Model: {weights}; data: {scenes}" in done.output
    assert "  -> " in done.output
    html = (page / "diagnosis.html").read_text(encoding="utf-8")
    assert "<co>" not in html
    assert "http://" not in html
    assert "data:image/jpeg" in html
    report = json.loads(table.read_text())
    assert report["images"] == 5
    assert report["counts"]["low-ap"] >= 1  # it is not trained
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "--overwrite" in again.output


@pytest.mark.parametrize(("paths", "message"), [(["a", "b"], "neither"), (["coco", "coco-v3"], "both are models")])
def test_which_is_the_model(paths: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["doctor", *paths])
    assert done.exit_code == 2
    assert message in done.output
    assert "--model" in done.output


def test_what_a_page_needs_is_asked_first(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("singleshot.doctor.examine.examine", lambda *_, **__: pytest.fail("hours of work are lost"))
    done = CliRunner().invoke(app, ["doctor", str(scenes)])
    assert done.exit_code == 2, done.output
    assert "jinja2" in done.output


def test_pages_replace_nothing(tmp_path: Path, scenes: Path) -> None:
    found = singleshot.examine(scenes)
    found.save(tmp_path)
    with pytest.raises(OutputError, match=r"diagnosis\.html"):
        found.save(tmp_path)
