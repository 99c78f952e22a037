"""Training on the reference's cases."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from singleshot.demo.scenes import make_scenes
from singleshot.errors import ConfigError
from singleshot.models.fast_conv.small_maps import SmallMapConvolutions
from singleshot.multibox import matching
from singleshot.training.logs import log_series
from singleshot.training.result import TrainResult
from singleshot.training.train import train
from singleshot.weights.file import read_spec, read_state

QUICK: dict[str, Any] = {"size_hw": [96, 96], "workers": 0, "amp": "fp32", "evaluation.every": 0, "log_every": 1}


def run(
    data: Path | None, out: Path, *, settings: dict[str, Any] | None = None, **options: Any
) -> tuple[TrainResult, str]:
    console = Console(file=io.StringIO(), width=200)
    result = train(data, out=out, settings=QUICK if settings is None else settings, console=console, **options)
    return result, console.file.getvalue()  # type: ignore[attr-defined]


def batch_of_one(folder: Path) -> None:
    for accumulate in (1, 4):
        settings = QUICK | {"data.val": "none", "accumulate": accumulate}
        result, text = run(folder / "data", folder / f"run{accumulate}", steps=2, batch_size=1, settings=settings)
        assert result.steps == 2
        assert "BatchNorm layers see one number per channel" in text


def dense_scene(folder: Path) -> None:
    """No array of the matching holds objects times objects."""
    result, _ = run(folder / "data", folder / "run", steps=2, batch_size=2, settings=QUICK | {"data.val": "none"})
    assert result.steps == 2
    calls = []
    scores = torch.rand(2000, 3000)
    ranked = matching._Ranked.of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching._Ranked, "of", lambda *args: calls.append(args[0].numel()) or ranked(*args))
        matching._propose(scores, torch.zeros(2000, dtype=torch.int64), 0.0)
    assert sum(calls) < 3 * scores.numel()


def resume_after_renaming(folder: Path) -> None:
    data = folder / "data" / "data.yaml"
    run(data, folder / "run", steps=2, batch_size=2)
    old = read_spec(folder / "run" / "last.safetensors").class_names
    lines = [line for line in data.read_text().splitlines() if not line.startswith("names")]
    data.write_text("\n".join([*lines, f"names: [{', '.join(reversed(old))}]"]) + "\n")
    with pytest.raises(ConfigError, match=rf"(?s)run:  {', '.join(old)}\n.*data: {', '.join(reversed(old))}"):
        run(None, folder / "run", settings={}, resume=True, steps=3)


def classes_changed(folder: Path) -> None:
    data = make_scenes(folder / "data", count=10, size_hw=(60, 80))
    (data / "classes.txt").unlink()
    run(data, folder / "run", steps=1, batch_size=2)
    for path in (data / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<name>mug</name>", "<name>amug</name>"))
    with pytest.raises(ConfigError, match=r"(?s)run:  ball, box, mug.*data: amug, ball, box"):
        run(None, folder / "run", settings={}, resume=True, steps=2)


def a_run(folder: Path) -> Path:
    data = make_scenes(folder / "data", count=10, size_hw=(60, 80))
    return run(data, folder / "run", steps=2, batch_size=2, settings=QUICK | {"data.val": "none"})[0].folder


def empty_config(folder: Path) -> None:
    path = a_run(folder) / "config.yaml"
    path.write_bytes((folder / "config.yaml").read_bytes())
    with pytest.raises(ConfigError, match=r"config\.yaml is empty or cut short.*`weights=.*last\.safetensors"):
        run(None, path.parent, settings={}, resume=True, steps=3)


def damaged_log(folder: Path) -> None:
    path = a_run(folder) / "metrics.csv"
    damaged = (folder / "metrics.csv").read_bytes()
    path.write_bytes(damaged)
    result, text = run(None, path.parent, settings={}, resume=True, steps=3)
    assert result.steps == 3
    assert "kept as metrics-damaged.csv" in text
    assert (path.parent / "metrics-damaged.csv").read_bytes() == damaged
    assert log_series(path, "loss/total")[0] == [3]


def small_input_in_bf16(folder: Path) -> None:
    conv = nn.Conv2d(16, 16, 3, stride=2, padding=1).to(memory_format=torch.channels_last)
    images = torch.randn(4, 16, 1, 1)
    with torch.autocast("cpu", torch.bfloat16), SmallMapConvolutions():
        output = conv(images)
    output.float().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.count_nonzero() == conv.weight.grad[:, :, 1, 1].count_nonzero()
    data = make_scenes(folder / "data", count=10, size_hw=(60, 80))
    settings = QUICK | {"amp": "bf16", "optimizer.clip_norm": 10, "data.val": "none"}
    states = [read_state(run(data, folder / name, steps=2, batch_size=2, settings=settings)[0].last) for name in "ab"]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


CASES: dict[str, Callable[[Path], None]] = {
    "cases/batch-of-one": batch_of_one,
    "cases/dense-scene": dense_scene,
    "cases/resume-after-renaming-classes": resume_after_renaming,
    "cases-trust/config-yaml-empty": empty_config,
    "cases-trust/metrics-csv-damaged": damaged_log,
    "cases-trust/resume-classes-changed": classes_changed,
    "cases-trust/train-bf16-small-input-garbage": small_input_in_bf16,
}
