"""Measure every model of the catalogue and fill the table of docs/family.md.

    python benchmarks/family_table.py --reference FOLDER --data FOLDER --write docs/family.md

Each row: the network is built and run at its own size and at one that is not square; its parameters and anchors are
counted; its raw heads are compared with the real systems' where the reference folder has them; it is exported and the
exported program compared with the network; and it learns for a few steps from real images (networks that occur under
several names once). The file holds what was measured before: a cell that is filled stays, unless ``--again`` names its
column, and every row is written at once, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from singleshot import data as datasets
from singleshot.core.files import write_atomically
from singleshot.data import DetectionDataset
from singleshot.errors import ConfigError
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_entry, model_names, model_spec
from singleshot.models.network import call_on_meta
from singleshot.training.build import build_loader, build_trainer
from singleshot.training.checkpoint import Learner, RunState
from singleshot.training.config import parse_config
from singleshot.training.logs import EvaluationRecord, StepRecord
from singleshot.training.setup import prepare
from singleshot.training.start import build_start

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from parity import imported_errors, mxnet_errors, mxnet_golden, web_model_errors

CLASSES = tuple(f"class{index}" for index in range(20))
IMAGES = 16
MARK = "<!-- measured by benchmarks/family_table.py -->"
COLUMNS = ("input", "builds", "parameters", "anchors", "parity error", "trains: loss", "export error")
PARITY_COLUMN, TRAINING_COLUMN, EXPORT_COLUMN = COLUMNS[4:]
NO_PARITY = "-"

IMPORTED = {
    "ssd300_vgg16": (
        "torchvision_ssd300_vgg16_c21_s2",
        "torchvision_ssd300_vgg16_c91_s1",
        "amdegroot_ssd300_c21_s3",
        "lufficc_vgg_ssd300_s4",
    ),
    "ssd512_vgg16": ("lufficc_vgg_ssd512_c21_s4",),
    "ssdlite320_mobilenet_v3_large": ("torchvision_ssdlite320_c21_s2", "torchvision_ssdlite320_c91_s1"),
    "refinedet320_vgg16": ("refinedet320_c21_s6",),
    "ssd300_resnet50": ("nvidia_ssd300_resnet50_s7",),
}
"""Golden files of systems whose checkpoints become this model."""
MXNET = ("mxnet_ssd_vgg16_reduced_300", "mxnet_dssd_vgg16_reduced_300", "mxnet_dssd_resnet101_321")


class Training(NamedTuple):
    """How a network is trained for the table."""

    lr: float = 3e-4
    steps: int = 12
    sizes_hw: tuple[tuple[int, int], ...] = ((160, 192), (288, 288))
    """The first that the network allows, else its own."""


# At the common rate these overshoot: their loss jumps and does not fall. They are also the largest, hence the smaller
# images.
PRODUCTS = Training(lr=1e-4, steps=20, sizes_hw=((96, 128),))
TRAINING = {f"mxnet_dssd_resnet101_321{variant}": PRODUCTS for variant in ("", "_residual", "_tdm_dssd")}
TRAINING["mxnet_dssd_resnet101_321_module"] = PRODUCTS._replace(lr=3e-5)
TRAINING["mxnet_ssd_mobilenet_300"] = Training(lr=1e-3)


class Losses:
    """Hears the total loss of every step, and shows it."""

    def __init__(self) -> None:
        self.totals: list[float] = []

    def on_step(self, record: StepRecord) -> None:
        self.totals.append(record.losses["total"])
        print(f"  step {len(self.totals)}: {self.totals[-1]:.2f}", end="\r", flush=True)

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


def measure_shapes(name: str) -> dict[str, str]:
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
    parameters = sum(parameter.numel() for parameter in network.parameters())
    values = (f"{height}x{width}", "yes", f"{parameters:,}", f"{rows[height, width]:,}")
    return dict(zip(COLUMNS, values, strict=False))


def measure_parity(name: str, reference: Path) -> str:
    """Largest relative difference to the real systems' raw heads and anchors, if there are any recorded."""
    errors: list[float] = []
    for file in IMPORTED.get(name, ()):
        errors += imported_errors(file, reference).values()
    if name in MXNET:
        errors += mxnet_errors(mxnet_golden(name, reference)).values()
    if name == "ssdlite300_mobilenet_v2":
        errors += web_model_errors(reference).values()
    return NO_PARITY if not errors else f"{max(errors):.1e}" if max(errors) else "0"


def smallest_size(name: str, sizes_hw: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """A small input where the network allows one, else its own: the check is about code, not about time."""
    spec = model_spec(name, CLASSES)
    with torch.device("meta"):
        network = build_network(spec.network)
    for size_hw in sizes_hw:
        try:
            network.map_sizes_hw(size_hw)
        except ConfigError:
            continue
        return size_hw
    return model_entry(name).size_hw


def measure_export(name: str) -> str:
    """Largest difference between the network and its exported program, relative to the largest value."""
    size_hw = smallest_size(name, Training().sizes_hw)
    torch.manual_seed(0)
    network = build_network(model_spec(name, CLASSES, size_hw).network).eval()
    images = torch.randn(1, 3, *size_hw)
    program = torch.export.export(network, (images,)).module()
    with torch.no_grad():
        pairs = zip(network(images), program(images), strict=True)
        error = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    return f"{error:.0e}" if error else "0"


def measure_training(name: str, data: DetectionDataset) -> str:
    """Mean total loss of the first and of the last three steps from random weights."""
    training = TRAINING.get(name, Training())
    size_hw = smallest_size(name, training.sizes_hw)
    config = parse_config(
        {
            "data": {"path": "."},
            "model": name,
            "weights": "none",
            "size_hw": size_hw,
            "steps": training.steps,
            "batch_size": 4 if size_hw == training.sizes_hw[0] else 2,
            "optimizer": {"name": "adamw", "lr": training.lr, "lr_batch": None},
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
    setup = prepare(config, build_start(config, data.class_map), data, None, device)
    trainer = build_trainer(setup, build_loader(setup), NoStore(), None)
    losses = Losses()
    trainer.observers = (losses,)
    trainer.fit()
    first, last = (sum(part) / len(part) for part in (losses.totals[:3], losses.totals[-3:]))
    return f"{first:.2f} → {last:.2f}"


def twins() -> dict[str, str]:
    """Every model, and the first in the catalogue that has the same network (other anchors or another size)."""
    first: dict[str, str] = {}
    return {name: first.setdefault(model_spec(name, CLASSES).network.model_dump_json(), name) for name in model_names()}


def read_table(text: str) -> dict[str, dict[str, str]]:
    """Cells by model and column of the marked table; none where there is no table."""
    lines = [line for line in text.partition(MARK)[2].partition(MARK)[0].splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): dict(zip(COLUMNS, row[1:], strict=True)) for row in rows}


def render(rows: Mapping[str, Mapping[str, str]]) -> str:
    """The table in Markdown, in the catalogue's order."""
    lines = [f"| model | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    ordered = [(name, rows[name]) for name in model_names() if name in rows]
    lines += [f"| `{name}` | {' | '.join(row.get(column, '') for column in COLUMNS)} |" for name, row in ordered]
    return "\n".join(lines)


def replace_table(text: str, rows: Mapping[str, Mapping[str, str]]) -> str:
    """A text with these rows in place of its marked table."""
    before, _, rest = text.partition(MARK)
    return f"{before}{MARK}\n\n{render(rows)}\n\n{MARK}{rest.partition(MARK)[2]}"


class Sources(NamedTuple):
    """What is there to measure with, and what is measured although its cell is filled."""

    reference: Path | None
    data: DetectionDataset | None
    again: frozenset[str]


def measure_row(name: str, known: Mapping[str, str], twin: str, sources: Sources) -> dict[str, str]:
    """A model's cells: the counts always, the others where they are wanted and can be measured."""
    row = {**known, **measure_shapes(name)}
    wanted = {column for column in COLUMNS if column in sources.again or not row.get(column)}
    if sources.reference and PARITY_COLUMN in wanted:
        row[PARITY_COLUMN] = measure_parity(name, sources.reference)
    if EXPORT_COLUMN in wanted:
        row[EXPORT_COLUMN] = measure_export(name)
    if twin != name:
        row[TRAINING_COLUMN] = f"as `{twin}`"
    elif sources.data is not None and TRAINING_COLUMN in wanted:
        row[TRAINING_COLUMN] = measure_training(name, sources.data)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="folder with golden/ and spec/; without it no parity")
    parser.add_argument("--data", type=Path, help="labelled images; without them nothing is trained")
    parser.add_argument("--write", type=Path, help="Markdown file whose marked table is filled; else it is printed")
    parser.add_argument("--only", nargs="*", help="names, else all")
    parser.add_argument("--again", nargs="*", default=(), choices=COLUMNS[4:], help="columns to measure anew")
    options = parser.parse_args()
    rows = read_table(options.write.read_text(encoding="utf-8")) if options.write else {}
    whole = datasets.open(options.data, "train") if options.data else None
    data = whole.subset(range(min(IMAGES, len(whole)))) if whole else None
    sources = Sources(options.reference, data, frozenset(options.again))
    twin_of = twins()
    for name in options.only or model_names():
        started = time.perf_counter()
        row = rows[name] = measure_row(name, rows.get(name, {}), twin_of[name], sources)
        if options.write:
            write_atomically(options.write, replace_table(options.write.read_text(encoding="utf-8"), rows))
        cells = " | ".join(row.get(column, "") for column in COLUMNS)
        print(f"{name}: {cells} ({time.perf_counter() - started:.0f} s)", flush=True)
    if not options.write:
        print(render(rows))


if __name__ == "__main__":
    main()
