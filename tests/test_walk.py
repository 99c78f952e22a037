"""A new user's walk through docs/getting-started.md, in three label formats, with a Ctrl-C and a kill -9 on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from singleshot.cli import app
from singleshot.training.logs import log_series

COUNT, STEPS = 12, 12
OPTIONS = [
    "--steps",
    str(STEPS),
    "--batch",
    "4",
    "--size",
    "96",
    "--amp",
    "fp32",
    "--workers",
    "0",
    "--set",
    "log_every=1",
]
CLASSES = ["ball", "box", "mug", "ring", "star"]
FORMATS = ("voc", "coco", "yolo")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the processes that are stopped, so that all sum in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def singleshot(*arguments: str) -> str:
    """Run a command, which must succeed; what it printed."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == 0, f"{arguments}: {result.output}"
    return result.output


def stop_in_the_middle(name: str, kind: signal.Signals, ready: Callable[[Path], bool]) -> tuple[int, str]:
    """Start training in a process of its own, and send a signal as soon as the run's folder is ``ready``."""
    command = [sys.executable, "-m", "singleshot", "train", name, *OPTIONS, "--set", "evaluation.every=4"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        while process.poll() is None and not ready(Path("runs") / name):
            time.sleep(0.02)
        process.send_signal(kind)
        output, _ = process.communicate(timeout=120)
    return process.returncode, output


def has_learnt(run: Path) -> bool:
    log = run / "metrics.csv"
    return log.is_file() and len(log.read_text().splitlines()) > 2


def has_saved(run: Path) -> bool:
    return (run / "state.pt").is_file()


@pytest.mark.heavy
def test_three_formats_three_ways_to_the_same_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.chdir(tmp_path)
    singleshot("data", "scenes", "voc", "--count", str(COUNT))
    for name in ("coco", "yolo"):
        assert f"{COUNT} images" in singleshot("data", "convert", "voc", name, "--to", name)
    for name in FORMATS:
        report = singleshot("data", "check", name)
        assert f"{name}: {name}" in report
        assert f"{COUNT} images" in report
        assert "No problems." in report

    code, output = stop_in_the_middle("voc", signal.SIGINT, has_learnt)
    assert code == 130, output
    assert "Continue with: singleshot train --resume --out runs/voc" in output
    assert "continuing runs/voc at step" in singleshot("train", "--resume", "--out", "runs/voc")
    code, output = stop_in_the_middle("coco", signal.SIGKILL, has_saved)
    assert code == -signal.SIGKILL, output
    assert "continuing runs/coco at step" in singleshot("train", "--resume")
    singleshot("train", "yolo", *OPTIONS, "--set", "evaluation.every=4")

    curves = {name: log_series(Path("runs") / name / "metrics.csv", "loss/total") for name in FORMATS}
    assert curves["voc"][0] == list(range(1, STEPS + 1))
    assert curves["coco"] == curves["voc"]
    # YOLO's files round: thousandths of a pixel.
    assert curves["yolo"][1] == pytest.approx(curves["voc"][1], rel=1e-3)

    for name in FORMATS:
        weights = f"runs/{name}/best.safetensors"
        assert Path(f"runs/{name}/report.html").is_file()
        singleshot("eval", weights, name, "--out", f"eval_{name}")
        numbers = json.loads(Path(f"eval_{name}/eval.json").read_text())
        assert (numbers["images"], numbers["split"]) == (2, "test")
        assert [row["name"] for row in numbers["per_class"]] == CLASSES
        pictures = {"voc": "voc/JPEGImages", "coco": "coco/images", "yolo": "yolo/images"}[name]
        options = ["--recursive", "--weights", weights, "--score", "0.05", "--out", f"found_{name}"]
        singleshot("predict", pictures, *options)
        found = json.loads(Path(f"found_{name}/detections.json").read_text())
        assert found["class_names"] == CLASSES
        assert len(found["images"]) == COUNT
        assert any(image["detections"] for image in found["images"])
        assert not found["failed"]
