"""Predicting: names of sources and of outputs, consoles, and what Python hands over."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from singleshot import load
from singleshot.cli import app
from singleshot.errors import ImageError
from singleshot.prediction.sinks.json import read_json


def singleshot(folder: Path, *arguments: str) -> Result:
    """Run the command within this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def own_process(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, whose console may be unable to show a name."""
    return subprocess.run(
        [sys.executable, "-m", "singleshot", *arguments],
        cwd=folder,
        env=os.environ | environment,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=300,
    )


def python(folder: Path, script: str = "run.py") -> None:
    """Run a case's script within this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        runpy.run_path(script, run_name="__main__")


def shell(folder: Path, script: str = "make.sh") -> None:
    subprocess.run(["sh", script], cwd=folder, check=True, timeout=60)


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def contents(folder: Path) -> Mapping[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def dotdot_source(folder: Path) -> None:
    project = folder / "home" / "proj"
    before = contents(folder)
    for number, save in enumerate(("images", "crops", "images,crops,json,csv,coco,jsonl"), 1):
        done = singleshot(project, "predict", "photos/IMG_2.jpg", "../../photos/IMG_1.jpg", "--save", save)
        assert done.exit_code == 0, done.stderr
        out = "home/proj/predictions" + ("" if number == 1 else f"-{number}") + "/"
        after = contents(folder)
        assert {name: after[name] for name in before} == before
        assert all(name.startswith(out) for name in after.keys() - before.keys())
        before = after
    assert len(files_below(project / "predictions" / "images")) == 2


def equal_output_names(folder: Path) -> None:
    done = singleshot(folder, "predict", "photos", "--save", "images,crops,json")
    assert done.exit_code == 0, done.stderr
    found = read_json(folder / "predictions/detections.json")
    assert len(files_below(folder / "predictions/images")) == len(found) == 4
    assert len(files_below(folder / "predictions/crops")) == sum(map(len, found))


def filename_250_bytes(folder: Path) -> None:
    shell(folder)
    done = singleshot(folder, "predict", "photos", "--save", "images,json,crops")
    assert done.exit_code == 0, done.stderr
    found = read_json(folder / "predictions/detections.json")
    assert len(files_below(folder / "predictions/images")) == len(found) == 4
    assert len(files_below(folder / "predictions/crops")) == sum(map(len, found))


def filename_not_utf8(folder: Path) -> None:
    shell(folder)
    done = own_process(folder, "predict", "photos", "--save", "images,json,jsonl,csv,coco,crops")
    assert done.returncode == 0, done.stderr
    for name in ("detections.json", "detections.jsonl"):
        found = read_json(folder / "predictions" / name)
        assert [(folder / str(item.path)).is_file() for item in found] == [True] * 3
    assert len((folder / "predictions/detections.csv").read_text(encoding="utf-8").splitlines()) >= 4
    json.loads((folder / "predictions/coco.json").read_text(encoding="utf-8"))
    assert len(files_below(folder / "predictions/images")) == 3


def folder_in_brackets(folder: Path) -> None:
    for source in ("trip [2024]", "trip [2024]/a.jpg", "trip [2024]/*.jpg"):
        done = singleshot(folder, "predict", source, "--save", "json")
        assert done.exit_code == 0, done.stderr
        assert "a.jpg" in done.stdout
    done = singleshot(folder, "predict", "trip [2024]/b.jpg")
    assert done.exit_code == 2
    assert "did you mean trip [2024]/a.jpg?" in done.stderr


def hidden_folders(folder: Path) -> None:
    done = singleshot(folder, "predict", "photos", "--recursive", "--save", "json")
    assert done.exit_code == 0, done.stderr
    assert [str(found.path) for found in read_json(folder / "predictions/detections.json")] == [
        "photos/a.jpg", "photos/sub/b.jpg",
    ]  # fmt: skip
    assert "photos/.trash" in done.stderr
    done = singleshot(folder, "predict", "photos/.trash", "--save", "json")
    assert (done.exit_code, done.stdout.count("deleted.jpg")) == (0, 1)


def sources_that_are_no_files(folder: Path) -> None:
    before = contents(folder)
    for source in ("", "https://example.org/a.jpg", "file:///tmp/a.jpg", "~/a.jpg"):
        done = singleshot(folder, "predict", source)
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
        assert source in done.stderr
    assert contents(folder) == before
    with pytest.raises(ImageError):
        load("coco").predict("")


def stdout_cp1252(folder: Path) -> None:
    for number, encoding in enumerate(("cp1252", "ascii", "utf-8"), 1):
        done = own_process(folder, "predict", "photos", PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert "犬.jpg: " in done.stdout or "\\u72ac.jpg: " in done.stdout
        out = folder / ("predictions" if number == 1 else f"predictions-{number}")
        assert len(read_json(out / "detections.json")) == 3


def name_not_utf8_of_trust(folder: Path) -> None:
    python(folder, "make.py")
    done = own_process(folder, "predict", "photos", "--save", "images,json,csv,coco")
    assert done.returncode == 0, done.stderr
    found = read_json(folder / "predictions/detections.json")
    assert found
    assert all((folder / str(item.path)).is_file() for item in found)


CASES: dict[str, Callable[[Path], Any]] = {
    "cases-predict/dotdot-source": dotdot_source,
    "cases-predict/equal-output-names": equal_output_names,
    "cases-predict/filename-250-bytes": filename_250_bytes,
    "cases-predict/filename-not-utf8": filename_not_utf8,
    "cases-predict/folder-in-brackets": folder_in_brackets,
    "cases-predict/hidden-folders": hidden_folders,
    "cases-predict/list-with-other-things": python,
    "cases-predict/numpy-ids-to-coco": python,
    "cases-predict/sources-that-are-no-files": sources_that_are_no_files,
    "cases-predict/stdout-cp1252": stdout_cp1252,
    "cases-predict/stream-of-strings": python,
    "cases-trust/file-name-not-utf8": name_not_utf8_of_trust,
}
