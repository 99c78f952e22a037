"""Training on several processes: does it equal one, how much quicker is it, and what does a killed process cost?

python benchmarks/ranks.py equal     # losses and weights of 2 processes against those of 1
python benchmarks/ranks.py speed     # 2 processes of 1 thread against twice 1 process of 1 thread
python benchmarks/ranks.py killed    # 5 kills at random moments under --max-restarts
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from rich.console import Console
from safetensors.torch import load_file

from ranks import together
from singleshot.demo.scenes import make_scenes
from singleshot.training.train import train

MODELS: Mapping[str, Mapping[str, Any]] = {
    "ssd300_vgg16": {"lr": 1e-4},
    "ssdlite300_mobilenet_v2": {"lr": 1e-3, "sync_batch_norm": True},
    "refinedet320_vgg16": {"lr": 1e-4},
}


def scenes(folder: Path, count: int, size_hw: tuple[int, int] = (120, 160)) -> Path:
    """Rendered scenes, a quarter of them without objects."""
    made = make_scenes(folder, count, size_hw=size_hw)
    for path in sorted(made.glob("Annotations/*.xml"))[::4]:
        text = path.read_text(encoding="utf-8")
        if "<object>" in text:
            head, tail = text.index("<object>"), text.rindex("</object>") + len("</object>")
            path.write_text(text[:head] + text[tail:], encoding="utf-8")
    return made


class Losses:
    """Keeps the losses and the speed of each step."""

    def __init__(self) -> None:
        self.totals: list[float] = []
        self.speeds: list[float] = []

    def on_step(self, record: Any) -> None:
        """Keep them."""
        self.totals.append(record.losses["total"])
        self.speeds.append(record.images_per_s)

    def on_evaluation(self, record: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def learn(data: Path, out: Path, **options: Any) -> Losses:
    """Train, and what was seen on the way."""
    seen = Losses()
    train(data, out=out, workers=0, device="cpu", callbacks=[seen], console=Console(quiet=True), **options)
    return seen


def equal(folder: Path, models: list[str], steps: int, size: int, batch: int) -> None:
    """Print the largest differences of losses, weights and metrics between 1 and 2 processes."""
    data = scenes(folder / "data", 40)
    for model in models:
        options = {
            **MODELS[model], "model": model, "weights": "none", "size": size, "steps": steps, "batch_size": batch,
            "amp": "fp32", "log_every": 1, "freeze": ["none"],
            "settings": {"optimizer.name": "sgd", "evaluation.every": 0},
        }  # fmt: skip
        torch.set_num_threads(1)
        alone = learn(data, folder / f"{model}-1", **options)
        both = together(lambda: learn(data, folder / f"{model}-2", **options), folder, seconds=3600)  # noqa: B023
        if not isinstance(both[0], Losses):
            raise SystemExit(f"{model}: {both}")
        losses = max(abs(a - b) / abs(a) for a, b in zip(alone.totals, both[0].totals, strict=True))
        states = [load_file(folder / f"{model}-{n}" / "last.safetensors") for n in (1, 2)]
        weights = max(float((states[0][k].double() - states[1][k].double()).abs().max()) for k in states[0])
        print(f"{model}: {steps} losses within {losses:.1e} (relative), weights within {weights:.1e}", flush=True)


def speed(folder: Path, models: list[str], steps: int, batch: int) -> None:
    """Print images per second of 1 process and of 2, each of 1 thread."""
    data = scenes(folder / "data", 40, (300, 400))
    for model in models:
        options = {
            **MODELS[model], "model": model, "weights": "none", "val": "none", "steps": steps, "amp": "fp32",
            "log_every": 1, "freeze": ["none"], "augment": "none",
        }  # fmt: skip
        torch.set_num_threads(1)
        alone = learn(data, folder / f"{model}-s1", batch_size=batch, **options).speeds
        both = together(lambda: learn(data, folder / f"{model}-s2", batch_size=2 * batch, **options), folder)[0].speeds  # noqa: B023
        one, two = sorted(alone[2:])[len(alone[2:]) // 2], sorted(both[2:])[len(both[2:]) // 2]
        print(f"{model}: {one:.2f} images/s alone, {two:.2f} together: {two / one / 2:.2f} of twice", flush=True)


def killed(folder: Path, kills: int, seed: int) -> None:
    """Kill a process at random moments of an elastic run, and compare its end with that of an unkilled one."""
    data, rng = scenes(folder / "data", 40), random.Random(seed)
    words = (
        f"--steps 40 --batch-size 4 --workers 0 --amp fp32 --size 96 --devices 2 --max-restarts {kills} --device cpu"
    )
    settings = "--set save_minutes=0.02 --set evaluation.every=0"
    command = [sys.executable, "-m", "singleshot", "train", str(data), *words.split(), *settings.split(), "--out"]
    quiet: Callable[..., Any] = lambda *args, **k: subprocess.Popen(*args, stdout=subprocess.DEVNULL, **k)  # noqa: E731
    if quiet([*command, str(folder / "calm")]).wait():
        raise SystemExit("the unkilled run failed")
    run, done = quiet([*command, str(folder / "killed")]), 0
    while run.poll() is None:
        time.sleep(rng.uniform(8, 30))
        ranks = children(run.pid)
        if done < kills and ranks and run.poll() is None:
            os.kill(rng.choice(ranks), signal.SIGKILL)
            done += 1
    states = [load_file(folder / name / "last.safetensors") for name in ("calm", "killed")]
    same = all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    print(json.dumps({"kills": done, "exit": run.returncode, "weights equal bit for bit": same}))


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["equal", "speed", "killed"])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if asked.what == "equal":
            equal(folder, asked.models, asked.steps, asked.size, asked.batch)
        elif asked.what == "speed":
            speed(folder, asked.models, asked.steps, asked.batch)
        else:
            killed(folder, asked.kills, asked.seed)


if __name__ == "__main__":
    main()
