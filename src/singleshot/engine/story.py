"""What a run tells a person: before the first step, after the last one, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml
from rich.text import Text as RichText

from singleshot.data import DetectionDataset
from singleshot.engine.checks import anchor_fit
from singleshot.engine.config import TrainConfig
from singleshot.engine.logs import log_series, read_log
from singleshot.engine.optimizer import has_batch_norm, learning_rate
from singleshot.engine.progress import clock
from singleshot.engine.start import Start
from singleshot.models.build import build_anchors
from singleshot.report.result import EvalResult

if TYPE_CHECKING:
    from singleshot.engine.assemble import Evaluation
    from singleshot.engine.train import TrainResult


def introduce(
    asked: TrainConfig,
    config: TrainConfig,
    device: torch.device,
    start: Start,
    frozen: Sequence[str],
    train_set: DetectionDataset,
    val_set: DetectionDataset | None,
    warnings: Sequence[str],
) -> RichText:
    """Everything worth knowing before the first step.

    Args:
        asked: the settings as given, for what ``auto`` was made of.
        config: the settings as used.
        device: where the network runs.
        start: the detector and where its numbers come from.
        frozen: names of the parameters that do not learn.
        train_set, val_set: the data.
        warnings: about the data.
    """
    height, width = start.spec.preprocess.size_hw
    anchors = build_anchors(start.spec, start.network)
    fit = anchor_fit(train_set.samples, train_set.class_map, anchors, (height, width))
    effective = int(config.batch) * config.accumulate
    unit, total = config.length
    parameters = sum(p.numel() for p in start.network.parameters())
    facts = {
        "data": _describe_data(train_set, val_set),
        "model": f"{start.spec.name}, input {width} x {height}, {parameters / 1e6:.2f} million parameters",
        "start": "\n".join(start.report.lines()),
        "boxes": "\n".join([*_scaled(asked, fit.smallest_anchor), *fit.lines()]),
        "run": f"{total:g} {unit}, batch {effective}, {config.optimizer.name}, {device}, {config.amp}",
        "lr": learning_rate(asked.optimizer, effective, has_batch_norm(start.network)).reason,
    }
    if frozen:
        facts["frozen"] = f"{len(frozen)} tensors: {', '.join(frozen[:6])}{' ...' if len(frozen) > 6 else ''}"
    return _table(facts, [*warnings, *fit.warnings(is_fitted=asked.anchors == "auto"), *_problem_counts(train_set)])


def conclude(result: TrainResult, config: TrainConfig, evaluation: Evaluation | None) -> RichText:
    """What was reached, on how much, and what to do next."""
    metric = config.evaluation.metric
    reached = ""
    if metric in result.metrics and evaluation:
        on = f"{_count(evaluation.images, 'held-out image')} with {_count(evaluation.objects, 'object')}"
        reached = f"{metric} {result.metrics[metric]:.3f} on {on}; "
    text = RichText()
    if result.ending == "interrupted":
        again = f"singleshot train --resume --out {result.folder}"
        return text.append(f"stopped at step {result.steps:,}; everything is saved. Continue with: {again}\n")
    early = " (stopped early: no longer improved)" if result.ending == "early" else ""
    text.append(f"{reached}{result.steps:,} steps in {clock(result.duration_s)}{early}\n", style="bold")
    facts = {"weights": str(result.best), "try": f"singleshot predict IMAGES --weights {result.best}"}
    if result.report:
        facts["report"] = str(result.report)
    return text.append(_table(facts, []))


def write_report(folder: Path, config: TrainConfig, metrics: Mapping[str, float], best: EvalResult | None) -> Path:
    """Write ``report.html``: the result, the curves, the evaluation of the best weights, the settings.

    Args:
        folder: of the run, with its ``metrics.csv``.
        config: the settings as used.
        metrics: of the best weights.
        best: their evaluation, where this session made it.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    from singleshot.report.evaluation import evaluation_sections
    from singleshot.report.page import Code, Figure, Figures, Section, Table, write_page
    from singleshot.report.plots import training_curve

    log = folder / "metrics.csv"
    columns, _ = read_log(log)
    losses = {name.removeprefix("loss/"): log_series(log, name) for name in columns if name.startswith("loss/")}
    shown = [name for name in ("coco_AP", "coco_AP50", "voc_area", "voc_07") if name in columns]
    curve = training_curve(losses, {name: log_series(log, name) for name in shown})
    rate = {"learning rate": log_series(log, "lr")}
    sections = [
        Section(
            "Training", [Figures([Figure(curve, "losses and scores"), Figure(training_curve(rate), "learning rate")])]
        ),
        *(evaluation_sections(best) if best else []),
        Section("Numbers of the best weights", [Table(["metric", "value"], [[k, v] for k, v in metrics.items()])]),
        Section("Settings", [Code(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))]),
    ]
    return write_page(folder / "report.html", f"Training: {folder.name}", sections)


def _scaled(asked: TrainConfig, smallest: float) -> list[str]:
    how = "to the training objects" if asked.anchors == "auto" else f"by {asked.anchor_scale or 1:g}"
    changed = asked.anchors == "auto" or asked.anchor_scale
    return [f"the model's default boxes are scaled {how}: the smallest is now {smallest:.0f} px"] if changed else []


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _describe_data(train_set: DetectionDataset, val_set: DetectionDataset | None) -> str:
    names = train_set.class_map.names
    classes = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    objects = sum(len(sample) for sample in train_set)
    lines = [
        f"{train_set.path} ({train_set.format}): {len(train_set):,} images, {objects:,} objects in split "
        f"'{train_set.split}'",
        f"{len(names)} classes: {classes}",
    ]
    if val_set is not None:
        lines.append(f"measured on {len(val_set):,} images of split '{val_set.split}'")
    return "\n".join(lines)


def _problem_counts(dataset: DetectionDataset) -> list[str]:
    changed = [problem for problem in dataset.problems if problem.action != "noted"]
    if not changed:
        return []
    return [f"{len(changed)} bad records were repaired or left out; 'singleshot data check {dataset.path}' lists them"]


def _table(facts: Mapping[str, str], warnings: Sequence[str]) -> RichText:
    """Names on the left, facts on the right, then warnings."""
    text = RichText()
    width = max(len(name) for name in facts)
    for name, fact in facts.items():
        for number, line in enumerate(fact.splitlines()):
            text.append(f"{name if number == 0 else '':<{width}}  ", style="bold cyan").append(f"{line}\n")
    for warning in warnings:
        text.append("warning: ", style="bold yellow").append(f"{warning}\n")
    return text
