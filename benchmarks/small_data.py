"""How well recipes learn a few hundred labelled photos in a few minutes of one core.

    python benchmarks/small_data.py SETS default fast:optimizer.lr=2e-3,batch_norm=eval --minutes 4 --seeds 2
    python benchmarks/small_data.py SETS default mine:@recipe.yaml --first 100

``SETS`` is a folder of data sets, or several of them, each with splits of its own: a recipe learns ``train``, chooses
its best weights by the held-out images that training takes, and is measured on ``test``. A recipe is
``NAME[:@FILE][,SETTING=VALUE...]``; plain ``default`` is what ``singleshot train`` does, ``train=trainval`` learns that
split, and a name that begins with ``torchvision`` is its SSDLite (``small_data_torchvision.py``). Time is processor
time of the training process, which has one thread and no workers, so that a busy machine cheats nobody; measuring on
``test`` is not part of it. Runs take turns (seed, set, recipe), so that a table is fair at any moment. Each run is a
line of ``--out``; what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace
from typing import Any, NamedTuple

import yaml
from rich.console import Console
from rich.table import Table

METRICS = ("AP", "AP75", "AP50")
BEST, LAST = "best", "last"
PEER = "torchvision"


class Run(NamedTuple):
    """One training.

    Attributes:
        recipe, settings: its name, and what differs from the defaults; ``recipe_file`` may be a YAML file.
        data: the set.
        seed: of everything random.
        minutes: processor time.
        first: so many training images; 0 takes all.
    """

    recipe: str
    recipe_file: str
    settings: dict[str, Any]
    data: str
    seed: int
    minutes: float
    first: int

    @property
    def key(self) -> str:
        """What tells runs apart."""
        return json.dumps([self.recipe, self.recipe_file, self.settings, Path(self.data).name, *self[4:]])


def parse_recipe(text: str) -> tuple[str, str, dict[str, Any]]:
    """``NAME[:@FILE][,KEY=VALUE...]``."""
    name, _, rest = text.partition(":")
    file, settings = "", {}
    for part in yaml_parts(rest):
        if part.startswith("@"):
            file = part[1:]
        else:
            key, _, value = part.partition("=")
            settings[key] = yaml.safe_load(value)
    return name, file, settings


def yaml_parts(text: str) -> list[str]:
    """Split at the commas that are not inside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part]


def find_sets(folders: Sequence[Path]) -> list[Path]:
    """The folders that have a test split, and those of them that a folder holds."""
    import singleshot

    def has_test(folder: Path) -> bool:
        try:
            return "test" in singleshot.data.splits(folder)
        except singleshot.SingleshotError:
            return False

    found = []
    for folder in folders:
        inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and has_test(path)]
        found += [folder] if has_test(folder) else inner
    if not found:
        raise SystemExit(f"no data set with a test split in {', '.join(map(str, folders))}")
    return found


class ProcessorTime(SimpleNamespace):
    """Stands in for the ``time`` module of the training loop."""

    perf_counter = staticmethod(time.process_time)
    time = staticmethod(time.time)


def train_here(run: Run) -> dict[str, Any]:
    """Train and measure, in this process."""
    import torch

    if run.recipe.startswith(PEER):
        from small_data_torchvision import train_torchvision

        return train_torchvision(run)
    import singleshot
    from singleshot.training import loop, session, window

    torch.set_num_threads(1)
    loop.time = window.time = ProcessorTime()  # type: ignore[assignment]
    if run.first:
        open_whole = session.open_training

        def open_some(*arguments: Any, **options: Any) -> Any:
            train_set, val_set = open_whole(*arguments, **options)
            return train_set.subset(range(min(run.first, len(train_set)))), val_set

        session.open_training = open_some
    settings = dict(run.settings)
    learnt = settings.pop("train", "train")
    with tempfile.TemporaryDirectory() as folder:
        result = singleshot.train(
            run.data,
            recipe=run.recipe_file or None,
            minutes=run.minutes,
            seed=run.seed,
            workers=0,
            device="cpu",
            out=Path(folder, "run"),
            train=learnt,
            settings=settings,
            console=Console(file=sys.stderr),
        )
        if result.ending == "interrupted":
            raise SystemExit("interrupted: a part of the time is no result")
        measured = {}
        tiling = {key[7:]: value for key, value in run.settings.items() if key in ("tiling.tile", "tiling.overlap")}
        for which, path in ((BEST, result.best), (LAST, result.last)):
            metrics = singleshot.evaluate(path, run.data, "test", backend="torch", **tiling).coco
            measured |= {f"{which}_{name}": metrics[name] for name in METRICS}
    return {**measured, "steps": result.steps, "seconds": result.duration_s}


def run_one(run: Run, log: Path) -> dict[str, Any] | None:
    """A training in a process of its own; ``None`` when it fails, with its words in a file."""
    command = [sys.executable, __file__, "--child", json.dumps(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        log.write_text(done.stderr)
        print(f"{run.recipe} on {Path(run.data).name}, seed {run.seed}: failed, see {log}", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Finished runs by key; a line that was cut off does not count."""
    results = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        results[record["key"]] = record
    return results


def show(runs: Sequence[Run], results: Mapping[str, Mapping[str, Any]], which: str) -> None:
    """A table: sets, then the mean over sets; the first recipe is what the others are compared with."""
    table = Table("set", "recipe", "runs", *METRICS, "spread of AP", "steps", title=f"test, {which} weights, percent")
    recipes = list(dict.fromkeys(run.recipe for run in runs))
    sets = list(dict.fromkeys(run.data for run in runs))
    means: dict[str, list[dict[str, float]]] = {recipe: [] for recipe in recipes}
    for data in sets:
        rows = {}
        for recipe in recipes:
            done = [results[r.key] for r in runs if (r.data, r.recipe) == (data, recipe) and r.key in results]
            if done:
                rows[recipe] = {m: mean(100 * one[f"{which}_{m}"] for one in done) for m in (*METRICS,)}
                values = [100 * one[f"{which}_AP"] for one in done]
                numbers = [f"{rows[recipe][m]:.1f}" for m in METRICS]
                spread = f"{stdev(values):.1f}" if len(values) > 1 else ""
                steps = f"{mean(one['steps'] for one in done):.0f}"
                table.add_row(Path(data).name, recipe, str(len(done)), *numbers, spread, steps)
        if len(rows) == len(recipes):
            for recipe in recipes:
                means[recipe].append(rows[recipe])
        table.add_section()
    for recipe in recipes:
        if means[recipe]:
            numbers = []
            for m in METRICS:
                value, base = (mean(row[m] for row in means[name]) for name in (recipe, recipes[0]))
                numbers.append(f"{value:.1f}" if recipe == recipes[0] else f"{value:.1f} ({value - base:+.1f})")
            table.add_row(f"mean of {len(means[recipe])}", recipe, "", *numbers, "", "")
    Console(width=None if Console().is_terminal else 120).print(table)


def main() -> int:
    """Run what is missing, then print the table."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(train_here(Run(*json.loads(sys.argv[2])))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", metavar="SETS RECIPE", help="folders of data, then recipes")
    parser.add_argument("--minutes", type=float, default=10, help="processor time of a run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="so many training images; 0 takes all")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--only", nargs="*", default=[], help="names of sets")
    parser.add_argument("--out", type=Path, default=Path("small_data.jsonl"), help="results, a line each")
    parser.add_argument("--weights", choices=(BEST, LAST), default=BEST, help="which weights the table shows")
    options = parser.parse_args()
    wrong = [word for word in options.words if "/" in word.partition(":")[0] and not Path(word).is_dir()]
    if wrong:
        parser.error(f"no such folder: {wrong[0]}")
    folders = [Path(word) for word in options.words if Path(word).is_dir()]
    recipes = [parse_recipe(word) for word in options.words if not Path(word).is_dir()] or [parse_recipe("default")]
    sets = [path for path in find_sets(folders) if not options.only or path.name in options.only]
    for what, names in (("sets", [path.name for path in sets]), ("recipes", [recipe[0] for recipe in recipes])):
        if len(set(names)) < len(names):
            parser.error(f"two {what} are called {max(names, key=names.count)}: results are kept by name")
    runs = [
        Run(*recipe, str(data), seed, options.minutes, options.first)
        for seed, data, recipe in product(range(options.seeds), sets, recipes)
    ]
    results = read_results(options.out)
    missing = [run for run in runs if run.key not in results]
    print(
        f"{len(runs) - len(missing)} of {len(runs)} runs are there; each takes {options.minutes:g} min", file=sys.stderr
    )
    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool, options.out.open("a") as out:
        logs = (options.out.with_suffix(f".{number}.log") for number in range(len(missing)))
        for run, result in zip(missing, pool.map(run_one, missing, logs), strict=True):
            if result is None:
                failed += 1
                continue
            results[run.key] = {"key": run.key, **result}
            print(json.dumps(results[run.key]), file=out, flush=True)
            print(f"{Path(run.data).name}, {run.recipe}, seed {run.seed}: AP {result['best_AP']:.3f}", file=sys.stderr)
    show(runs, results, options.weights)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
