"""The demo: real photos, the bundled detector, one report."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from singleshot.demo import run_demo
from singleshot.demo.detect import detect_photos, photo_folder
from singleshot.demo.stage import DemoContext, StageResult
from singleshot.errors import MissingExtraError


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
    with pytest.raises(MissingExtraError, match=r"singleshot\[demo\]"):
        photo_folder()
