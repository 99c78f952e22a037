"""The demo: real photos, the bundled detector, one report."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from singleshot.cli import app
from singleshot.demo import run_demo, stages
from singleshot.demo.common import DemoContext, StageResult
from singleshot.demo.detect import detect_photos, photo_folder
from singleshot.demo.learn import Course, learn_scenes, remove_former_run, render_scenes
from singleshot.detector import load
from singleshot.errors import DataError, MissingExtraError, OutputError
from singleshot.training.config import TrainConfig
from singleshot.training.recipes import write_config
from singleshot.training.result import TrainResult


def console() -> Console:
    return Console(file=io.StringIO(), width=60)


def test_stages_meet_in_one_report(tmp_path: Path) -> None:
    page = pytest.importorskip("singleshot.report.page")
    pytest.importorskip("jinja2")

    def first(context: DemoContext) -> StageResult:
        return StageResult([page.Section("Part one", [page.Text("so it is")])], [context.out / "x"], ["singleshot x"])

    def second(context: DemoContext) -> StageResult:
        return StageResult([page.Section("Part two")])

    screen = console()
    report = run_demo(tmp_path / "new", screen, [first, second])
    text = report.read_text()
    assert text.index("Part one") < text.index("so it is") < text.index("Part two")
    printed = screen.file.getvalue()  # type: ignore[attr-defined]
    for line in (str(report), str(tmp_path / "new" / "x"), "singleshot x"):
        assert line in printed


def test_photos_are_detected(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    result = detect_photos(DemoContext(tmp_path, console()))
    document = json.loads((tmp_path / "detections.json").read_text())
    found = {
        Path(record["path"]).name: {row["class_name"] for row in record["detections"]} for record in document["images"]
    }
    assert found["astronaut.png"] == {"person"}
    assert found["chelsea.png"] == {"cat"}
    assert "cup" in found["coffee.png"]
    assert len(result.sections) == 2
    assert all(path.exists() for path in result.files)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singleshot.demo.detect.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'scikit-image>=.*extra 'demo'"):
        photo_folder()


SHORT = Course(
    images=10, steps=2, batch_size=4, settings={"size_hw": [96, 96], "workers": 0, "amp": "fp32", "evaluation.every": 1}
)


def test_scenes_are_learnt_and_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    screen = console()
    result = learn_scenes(DemoContext(tmp_path, screen), SHORT)
    titles = [section.title for section in result.sections]
    assert titles[:3] == ["Learn: the data", "Learn: the run", "Learn: result"]
    assert "Learn: curves" in titles
    assert "Learn: worst images" in titles
    assert all(path.exists() for path in result.files)
    assert load(tmp_path / "run" / "last.safetensors").class_names == ("ball", "box", "mug", "ring", "star")
    assert f"singleshot predict {tmp_path}" in result.commands[0]
    assert "Rendering" in screen.file.getvalue()  # type: ignore[attr-defined]


def test_a_second_demo_keeps_the_scenes_and_replaces_its_own_run_only(tmp_path: Path) -> None:
    scenes = render_scenes(DemoContext(tmp_path, console()), 2)
    before = (scenes / "classes.txt").stat().st_mtime_ns
    assert render_scenes(DemoContext(tmp_path, console()), 2) == scenes
    assert (scenes / "classes.txt").stat().st_mtime_ns == before
    for data, stays in ((scenes, False), (tmp_path / "mine", True)):
        run = tmp_path / "run"
        write_config(TrainConfig().updated({"data.path": str(data)}), run / "config.yaml")
        remove_former_run(run, scenes)
        assert run.exists() is stays


def test_half_rendered_scenes_are_rendered_again(tmp_path: Path) -> None:
    (tmp_path / "scenes.unfinished" / "JPEGImages").mkdir(parents=True)
    scenes = render_scenes(DemoContext(tmp_path, console()), 2)
    assert len(list((scenes / "JPEGImages").iterdir())) == 2
    assert not (tmp_path / "scenes.unfinished").exists()


def test_scenes_do_not_replace_what_somebody_keeps_there(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "holiday.jpg").touch()
    with pytest.raises(DataError, match="not an empty folder"):
        render_scenes(DemoContext(tmp_path, console()), 2)
    assert (tmp_path / "scenes" / "holiday.jpg").exists()


def test_an_interrupted_course_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = TrainResult(tmp_path / "run", "interrupted", tmp_path, tmp_path, {}, 1, 0.0)
    monkeypatch.setattr("singleshot.training.train.train", lambda *args, **options: stopped)
    result = learn_scenes(DemoContext(tmp_path, console()), SHORT)
    assert result.sections == ()
    assert list(result.commands) == [f"singleshot train --resume --out {tmp_path / 'run'}"]


def test_learning_can_be_left_out() -> None:
    assert stages() == (detect_photos, learn_scenes)
    assert stages(learn=False) == (detect_photos,)
    assert "--no-train" in CliRunner().invoke(app, ["demo", "--help"], env={"COLUMNS": "120"}).output


def test_a_demo_replaces_only_a_former_demo(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new", tmp_path / "new"):
        assert run_demo(out, console(), []).is_file()
    own = tmp_path / "own"
    own.mkdir()
    (own / "report.html").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (own, tmp_path / "file"):
        with pytest.raises(OutputError, match="another `out`"):
            run_demo(out, console(), [])
    assert [path.read_text() for path in own.iterdir()] == ["mine"]
