"""Whole runs on two devices: forked processes here; those that ``--devices`` starts, kills and errors are heavy."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import singleshot
from ranks import beginning, together
from singleshot.demo.scenes import make_scenes
from singleshot.errors import ConfigError
from singleshot.training.logs import read_log
from singleshot.training.recipes import read_config
from singleshot.training.world import StoppedError

DETECTOR = {
    "backbone": "mobilenet_v2", "size_hw": [64, 64], "boxes": {"scales": [0.2, 0.8], "ratios": [2]},
    "extras": [{"kind": "separable", "out_channels": 32, "batch_norm": True}],
}  # fmt: skip
SGD = {"optimizer.name": "sgd", "optimizer.lr": 1e-4, "amp": "fp32", "workers": 0}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes", count=15, size_hw=(64, 96))


def learn(data: Path, out: Path, **options: Any) -> tuple[dict[str, float], str, bool]:
    """Metrics of the best weights, what was printed, and whether this process wrote the files."""
    screen = io.StringIO()
    asked: dict[str, Any] = {"steps": 3, "batch_size": 5, "log_every": 1, "settings": SGD}
    asked["console"] = Console(file=screen)
    if not options.get("resume"):
        asked |= {"model": DETECTOR, "weights": "none"}
    result = singleshot.train(data, out=out, **(asked | options))
    return result.metrics, screen.getvalue(), result.is_first


def losses(folder: Path) -> list[float]:
    return [float(row["loss/total"]) for row in read_log(folder / "metrics.csv")[1] if "loss/total" in row]


@pytest.mark.heavy
def test_a_run_of_two_is_that_of_one_and_goes_on_alone(scenes: Path, tmp_path: Path) -> None:
    with beginning(torch.float64):
        learn(scenes, tmp_path / "one", val="none")
        assert None not in together(lambda: learn(scenes, tmp_path / "two", val="none"), tmp_path)
    first, second = together(lambda: learn(scenes, tmp_path / "measured"), tmp_path)
    assert isinstance(first, tuple), first
    assert isinstance(second, tuple), second
    assert first[0] == second[0]
    assert "5 images a step: 2 devices x 2 or 3; BatchNorm over all 5" in first[1]
    assert (second[1], first[2], second[2]) == ("", True, False)
    check_equal(tmp_path / "one", tmp_path / "two", steps=3)
    assert read_config(tmp_path / "two" / "config.yaml").evaluation.batch_size == 3

    with beginning(torch.float64):
        for name in ("one", "two"):
            learn(scenes, tmp_path / name, resume=True, steps=5)
    check_equal(tmp_path / "one", tmp_path / "two", steps=5)


def check_equal(one: Path, two: Path, steps: int) -> None:
    """Of two runs in float64; in float32 steps enlarge rounding to some percent of the losses."""
    assert len(losses(two)) == steps
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)  # the log has six digits
    states = [load_file(run / "last.safetensors") for run in (one, two)]
    assert torch.float64 in {value.dtype for value in states[0].values()}
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=0, atol=1e-8)


def test_all_hear_of_a_mistake_and_one_tells_it(scenes: Path, tmp_path: Path) -> None:
    found = together(lambda: learn(scenes, tmp_path / "run", batch_size=1), tmp_path)
    kinds = sorted(type(error).__name__ for error in found)
    assert kinds == ["ConfigError", "StoppedError"]
    assert "cannot be shared by 2 devices" in str(next(e for e in found if isinstance(e, ConfigError)))
    assert issubclass(StoppedError, singleshot.errors.SingleshotError)


def test_what_cannot_be_handed_over_is_refused(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="`console` cannot be handed"):
        singleshot.train(scenes, devices=2, device="cpu", console=Console(), out=tmp_path / "run")
    monkeypatch.setattr("singleshot.training.launch.usable_cores", lambda: 2)
    with pytest.raises(ConfigError, match="there are 2 cores here"):
        singleshot.train(scenes, devices=3, device="cpu", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def command(data: Path, out: Path, *more: str) -> list[str]:
    words = "--size 64 --workers 0 --amp fp32 --batch-size 4 --devices 2 --device cpu --seed 1"
    return [sys.executable, "-m", "singleshot", "train", str(data), "--out", str(out), *words.split(" "), *more]


def ended(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


def ranks_of(agent: int) -> list[int]:
    path = Path(f"/proc/{agent}/task/{agent}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def wait_for(path: Path, agent: subprocess.Popen[str]) -> None:
    while not path.exists() and agent.poll() is None:
        time.sleep(0.2)


@pytest.mark.heavy
def test_the_command_starts_them(scenes: Path, tmp_path: Path) -> None:
    done = ended(command(scenes, tmp_path / "run", "--steps", "2"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("4 images a step: 2 devices x 2") == 1
    assert done.stdout.count("weights  ") == 1
    assert done.stderr == ""
    wrong = ended(command(scenes, tmp_path / "run"))
    assert wrong.returncode == 2
    assert wrong.stderr.count("Error: ") == 1
    assert "already holds a run: continue it with --resume" in wrong.stderr


@pytest.mark.heavy
def test_python_starts_them(scenes: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"devices": 2, "device": "cpu", "steps": 1, "settings": SGD, "out": tmp_path / "run"}
    result = singleshot.train(scenes, DETECTOR, "none", batch_size=4, **options)
    assert (result.ending, result.steps, result.last.is_file()) == ("finished", 1, True)
    with pytest.raises(ConfigError, match="already holds a run"):
        singleshot.train(scenes, DETECTOR, "none", **options)


@pytest.mark.heavy
def test_ctrl_c_saves_and_ends_all(scenes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    agent = subprocess.Popen(command(scenes, run, "--steps", "1000"), text=True, stdout=subprocess.PIPE)
    wait_for(run / "metrics.csv", agent)
    agent.send_signal(signal.SIGINT)
    printed, _ = agent.communicate(timeout=120)
    assert agent.returncode == 130
    assert printed.count("everything is saved. Continue with: ") == 1
    assert (run / "state.pt").is_file()


@pytest.mark.heavy
@pytest.mark.parametrize("restarts", [0, 2])
def test_a_killed_process_ends_the_run_or_costs_nothing(scenes: Path, tmp_path: Path, restarts: int) -> None:
    more = ["--steps", "12", "--set", "save_minutes=0.001", "--set", "evaluation.every=0"]
    calm, run = tmp_path / "calm", tmp_path / "run"
    agent = subprocess.Popen(
        command(scenes, run, *more, "--max-restarts", str(restarts)), text=True, stderr=subprocess.PIPE
    )
    wait_for(run / "state.pt", agent)
    os.kill(ranks_of(agent.pid)[-1], signal.SIGKILL)
    _, errors = agent.communicate(timeout=300)
    if not restarts:
        assert agent.returncode == 2
        assert "was ended by SIGKILL" in errors
        return
    assert agent.returncode == 0, errors
    subprocess.run(command(scenes, calm, *more), check=True)
    states = [load_file(folder / "last.safetensors") for folder in (calm, run)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
