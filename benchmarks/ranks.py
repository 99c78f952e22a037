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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from rich.console import Console
from safetensors.torch import load_file

from ranks import beginning, together
from singleshot.demo.scenes import make_scenes
from singleshot.training.train import train

MODELS: Mapping[str, Mapping[str, Any]] = {
    "ssd300_vgg16": {"weights": "none"},
    "ssdlite300_mobilenet_v2": {"weights": "coco", "sync_batch_norm": True},
    "refinedet320_vgg16": {"weights": "none"},
}
LOSS_BAR, WEIGHT_BAR = 1e-5, 1e-4
SGD = {"optimizer.name": "sgd"}


def scenes(folder: Path, count: int, size_hw: tuple[int, int] = (120, 160)) -> Path:
    """Rendered scenes, a quarter of them without objects."""
    made = make_scenes(folder, count, size_hw=size_hw)
    for path in sorted(made.glob("Annotations/*.xml"))[::4]:
        text = path.read_text(encoding="utf-8")
        if "<object>" in text:
            head, tail = text.index("<object>"), text.rindex("</object>") + len("</object>")
            path.write_text(text[:head] + text[tail:], encoding="utf-8")
    return made


class Steps:
    """Keeps the loss, the speed and the processor's time of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.speeds: list[float] = []
        self.cpu_s: list[float] = []

    def on_step(self, record: Any) -> None:
        """Keep them."""
        self.losses.append(record.losses["total"])
        self.speeds.append(record.images_per_s)
        self.cpu_s.append(time.process_time())

    def on_evaluation(self, record: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def learn(data: Path, out: Path, **options: Any) -> Steps:
    """Train, and what was seen on the way."""
    seen, fixed = Steps(), {"amp": "fp32", "log_every": 1, "freeze": ["none"], "val": "none", "device": "cpu"}
    train(data, out=out, overwrite=True, workers=0, callbacks=[seen], console=Console(quiet=True), **fixed, **options)
    return seen


def equal(folder: Path, models: Sequence[str], formats: Sequence[str], nudge: float, **options: Any) -> bool:
    """Print how far the losses and weights of 2 processes are from those of 1; whether float64 keeps the bars.

    Processes add in another order, and every step enlarges what that rounds off. In float64 that is 5e8 times less, and
    what is more than that would be a mistake. As many steps of 1 process whose first weights are nudged by
    ``nudge`` times the distance of two numbers show what rounding alone does, in either format.
    """
    data, keeps = scenes(folder / "data", 40), True
    torch.set_num_threads(1)
    for model in models:

        def run(name: str, model: str = model) -> Steps:
            return learn(data, folder / name, **MODELS[model] | options, model=model, settings=SGD)

        for format in formats:
            dtype = getattr(torch, format)
            with beginning(dtype):
                one, two = run("one"), together(lambda: run("two"), folder, seconds=3600)[0]
            if not isinstance(two, Steps):
                raise SystemExit(f"{model}: {two}")
            with beginning(dtype, nudge=nudge * torch.finfo(dtype).eps):
                nudged = run("nudged")
            print(f"{model}, {format}: losses within (relative), after 1, 2, 5, 10, ... steps; last weights within")
            for who, other in (("2 processes", two), ("1, nudged", nudged)):
                apart = distances(one, other)
                weights = weights_apart(folder / "one", folder / ("two" if other is two else "nudged"))
                shown = [apart[n - 1] for n in sorted({1, 2, 5, 10, len(apart)}) if n <= len(apart)]
                print(f"  {who}: {', '.join(f'{one:.0e}' for one in shown)}; {weights:.0e}", flush=True)
                if other is two and format == "float64":
                    keeps &= apart[-1] <= LOSS_BAR and weights <= WEIGHT_BAR
    return keeps


def distances(one: Steps, other: Steps) -> list[float]:
    """The largest relative difference of losses up to each step."""
    found = [abs(a - b) / abs(a) for a, b in zip(one.losses, other.losses, strict=True)]
    return [max(found[: n + 1]) for n in range(len(found))]


def weights_apart(one: Path, other: Path) -> float:
    """The largest difference of two runs' weights."""
    first, second = (load_file(run / "last.safetensors") for run in (one, other))
    return max(float((first[key].double() - second[key].double()).abs().max()) for key in first)


def speed(folder: Path, models: Sequence[str], steps: int, batch: int) -> None:
    """Print images per second of 1 process and of 2, each of 1 thread; 2 that do not talk show what the machine can."""
    data = scenes(folder / "data", 40, (300, 400))
    torch.set_num_threads(1)
    for model in models:
        options = {**MODELS[model], "model": model, "steps": steps, "augment": "none"}
        ways: dict[str, dict[str, Any]] = {"apart": {}, "together": {}}
        if "sync_batch_norm" in options:
            ways["together, BatchNorm apart"] = {"sync_batch_norm": False}
        one, one_cpu_s = pace(learn(data, folder / "alone", batch_size=batch, **options))
        print(f"{model}: 1 process {one:.2f} images/s, {one_cpu_s / batch:.3f} s of a core for an image", flush=True)
        for name, changes in ways.items():

            def work(name: str = name, options: Any = options | changes) -> Steps:
                is_apart = name == "apart"
                if is_apart:
                    os.environ["WORLD_SIZE"] = "1"
                out = folder / (f"apart-{os.environ['RANK']}" if is_apart else name)
                return learn(data, out, batch_size=batch if is_apart else 2 * batch, **options)

            found = [pace(seen) for seen in together(work, folder) if seen.losses]
            rate, cpu_s = sum(rate for rate, _ in found), found[0][1] / batch
            print(f"  2 {name}: {rate:.2f} images/s, {rate / one / 2:.2f} of twice; {cpu_s:.3f} s", flush=True)


def pace(seen: Steps) -> tuple[float, float]:
    """Images per second and the processor's seconds of a step: medians, without the first two steps."""
    spent = [after - before for before, after in zip(seen.cpu_s[1:-1], seen.cpu_s[2:], strict=True)]
    return median(seen.speeds[2:]), median(spent)


def killed(folder: Path, kills: int, seed: int) -> bool:
    """Kill a process at random moments of an elastic run; whether its end is that of an unkilled one."""
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
    return same


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["equal", "speed", "killed"])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument(
        "--lr", type=float, default=1e-7, help="of equal: the higher, the more a step enlarges rounding"
    )
    parser.add_argument("--formats", nargs="+", default=["float64", "float32"])
    parser.add_argument("--nudge", type=float, default=1, help="of equal: times the distance of two numbers")
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    keeps = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if asked.what == "equal":
            sizes = {"steps": asked.steps, "size": asked.size, "batch_size": asked.batch, "lr": asked.lr}
            keeps = equal(folder, asked.models, asked.formats, asked.nudge, **sizes)
        elif asked.what == "speed":
            speed(folder, asked.models, asked.steps, asked.batch)
        else:
            keeps = killed(folder, asked.kills, asked.seed)
    return 0 if keeps else 1


if __name__ == "__main__":
    sys.exit(main())
