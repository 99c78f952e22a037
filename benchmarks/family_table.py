"""Measure every model of the catalogue and write the table of docs/family.md.

    python benchmarks/family_table.py --reference FOLDER --data FOLDER --results family.json --write docs/family.md

Each row: the network is built and run at its own size and at one that is not square; its parameters and anchors are
counted; its raw heads are compared with the real system's where the reference folder has them; it is exported and the
exported program compared with the network; and it learns for a few steps from real images (networks that occur under
several names once). Rows are kept in a JSON file, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from singleshot import data as datasets
from singleshot.data import DetectionDataset
from singleshot.engine.assemble import build_trainer, resolve
from singleshot.engine.checkpoint import Learner, RunState
from singleshot.engine.config import TrainConfig, parse_config
from singleshot.engine.logs import EvaluationRecord, StepRecord
from singleshot.engine.start import build_start
from singleshot.errors import ConfigError
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_entry, model_names, model_spec
from singleshot.models.network import call_on_meta

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from parity import mxnet_errors, mxnet_golden, nvidia_errors, refinedet_errors

CLASSES = tuple(f"class{index}" for index in range(20))
SIZES_HW = ((160, 192), (288, 288))
IMAGES = 16
MARK = "<!-- measured by benchmarks/family_table.py -->"

PARITY: dict[str, Callable[[Path], dict[str, float]]] = {
    "refinedet320_vgg16": refinedet_errors,
    "ssd300_resnet50": nvidia_errors,
    **{
        name: lambda folder, name=name: mxnet_errors(mxnet_golden(name, folder))
        for name in ("mxnet_ssd_vgg16_reduced_300", "mxnet_dssd_vgg16_reduced_300", "mxnet_dssd_resnet101_321")
    },
}


class Losses:
    """Hears the total loss of every step."""

    def __init__(self) -> None:
        self.totals: list[float] = []

    def on_step(self, record: StepRecord) -> None:
        self.totals.append(record.losses["total"])

    def on_evaluation(self, record: EvaluationRecord) -> None:
        pass

    def close(self) -> None:
        pass


class NoStore:
    """Keeps nothing."""

    def save_state(self, learner: Learner, run: RunState) -> None:
        pass

    def save_weights(self, name: str, network: nn.Module, metrics: Mapping[str, float]) -> None:
        pass


def measure_shapes(name: str) -> dict[str, Any]:
    """Counts, and whether the heads have one row per anchor at the own size and at one that is not square."""
    spec = model_spec(name, CLASSES)
    with torch.device("meta"):
        network = build_network(spec.network).eval()
    height, width = spec.preprocess.size_hw
    rows = {}
    for size_hw in ((height, width), (height, width + 68)):
        output = call_on_meta(network, torch.empty((1, 3, *size_hw), device="meta"))
        rows[size_hw] = output.box_codes.shape[1]
        assert rows[size_hw] == output.class_logits.shape[1] == len(build_anchors(spec, network, size_hw))
    return {
        "input": f"{height}x{width}",
        "builds": "yes",
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "anchors": rows[height, width],
    }


def smallest_size(name: str) -> tuple[int, int]:
    """A small input where the network allows one, else its own: the check is about code, not about time."""
    spec = model_spec(name, CLASSES)
    with torch.device("meta"):
        network = build_network(spec.network)
    for size_hw in SIZES_HW:
        try:
            network.map_sizes_hw(size_hw)
        except ConfigError:
            continue
        return size_hw
    return model_entry(name).size_hw


def measure_export(name: str, size_hw: tuple[int, int]) -> float:
    """Largest difference between the network and its exported program, relative to the largest value."""
    torch.manual_seed(0)
    network = build_network(model_spec(name, CLASSES, size_hw).network).eval()
    images = torch.randn(1, 3, *size_hw)
    program = torch.export.export(network, (images,)).module()
    with torch.no_grad():
        pairs = zip(network(images), program(images), strict=True)
        return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def measure_training(name: str, size_hw: tuple[int, int], data: DetectionDataset, steps: int) -> list[float]:
    """Mean total loss of the first and of the last three steps from random weights."""
    config = parse_config(
        {
            "data": {"path": "."},
            "model": name,
            "weights": "none",
            "size_hw": size_hw,
            "steps": steps,
            "batch": 4 if size_hw == SIZES_HW[0] else 2,
            "optimizer": {"name": "adamw", "lr": 3e-4, "lr_batch": None},
            "schedule": {"kind": "constant", "warmup_steps": 0},
            "ema": None,
            "augment": "none",
            "amp": "fp32",
            "workers": 0,
            "log_every": 1,
        },
        "benchmark",
    )
    device = torch.device("cpu")
    start = build_start(config, data.class_map)
    resolved: TrainConfig = resolve(config, start, len(data), device)
    trainer = build_trainer(resolved, start, data, NoStore(), device, None)
    losses = Losses()
    trainer.observers = (losses,)
    trainer.fit()
    return [sum(part) / len(part) for part in (losses.totals[:3], losses.totals[-3:])]


def render(rows: Mapping[str, dict[str, Any]]) -> str:
    """The table in Markdown."""
    head = "| model | input | builds | parameters | anchors | parity error | trains: loss | export error |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        parity = f"{row['parity']:.1e}" if "parity" in row else ""
        loss = (
            "{:.2f} → {:.2f}".format(*row["loss"]) if "loss" in row else f"as `{row['twin']}`" if "twin" in row else ""
        )
        export = f"{row['export']:.0e}".replace("0e+00", "0") if "export" in row else ""
        lines.append(
            f"| `{name}` | {row['input']} | {row['builds']} | {row['parameters']:,} | {row['anchors']:,} | {parity} "
            f"| {loss} | {export} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="folder with golden/ and spec/; without it no parity")
    parser.add_argument("--data", type=Path, help="labelled images; without them nothing is trained")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--results", type=Path, default=Path("family.json"))
    parser.add_argument("--write", type=Path, help="Markdown file whose marked table is replaced")
    parser.add_argument("--only", nargs="*", help="names, else all")
    options = parser.parse_args()
    rows: dict[str, dict[str, Any]] = json.loads(options.results.read_text()) if options.results.exists() else {}
    data = None
    if options.data:
        whole = datasets.open(options.data, "train")
        data = whole.subset(range(min(IMAGES, len(whole))))
    trained: dict[str, str] = {}
    for name in options.only or model_names():
        started = time.perf_counter()
        twin = trained.setdefault(model_spec(name, CLASSES).network.model_dump_json(), name)
        row = rows.setdefault(name, {})
        if "anchors" not in row:
            row |= measure_shapes(name)
        if options.reference and name in PARITY and "parity" not in row:
            row["parity"] = max(PARITY[name](options.reference).values())
        size_hw = smallest_size(name)
        if "export" not in row:
            row["export"] = measure_export(name, size_hw)
        if twin != name:
            row["twin"] = twin
        elif data is not None and "loss" not in row:
            row["loss"] = measure_training(name, size_hw, data, options.steps)
        options.results.write_text(json.dumps(rows, indent=1))
        print(f"{name}: {row} ({time.perf_counter() - started:.0f} s)", flush=True)
    table = render({name: rows[name] for name in model_names() if name in rows})
    print(table)
    if options.write:
        before, _, rest = options.write.read_text().partition(MARK)
        after = rest.partition(MARK)[2]
        options.write.write_text(f"{before}{MARK}\n\n{table}\n\n{MARK}{after}")


if __name__ == "__main__":
    main()
