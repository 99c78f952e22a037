"""What a run tells a person: before the first step, after the last one, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from rich.text import Text as RichText

from singleshot import data as datasets
from singleshot.augment.config import MIRROR
from singleshot.augment.orientation import why_not_mirrored
from singleshot.core.wording import counted
from singleshot.data import DetectionDataset
from singleshot.data.train_val import remarks
from singleshot.errors import SingleshotError
from singleshot.evaluation.numbers import Measured
from singleshot.evaluation.pages import evaluation_sections
from singleshot.report.page import Code, Section, Table, Text, write_page
from singleshot.report.plots import Series
from singleshot.training.checks import anchor_fit
from singleshot.training.config import TrainConfig
from singleshot.training.held_out import HeldOut
from singleshot.training.loader import TrainLoader
from singleshot.training.logs import log_series, read_log
from singleshot.training.optimizer import has_batch_norm
from singleshot.training.pages import batch_section, curve_section, data_section, held_out_rule
from singleshot.training.progress import clock
from singleshot.training.result import TrainResult
from singleshot.training.setup import Setup
from singleshot.training.world import ALONE, World

PREVIEW_IMAGES = 12
"""Training images that the report shows."""


def introduce(setup: Setup, warnings: Sequence[str], world: World = ALONE) -> RichText:
    """Everything worth knowing before the first step.

    Args:
        setup: what was decided.
        warnings: what to worry about.
        world: the processes that learn together.
    """
    config, spec, train_set = setup.config, setup.start.spec, setup.train_set
    height, width = spec.preprocess.size_hw
    fit = anchor_fit(setup.samples, train_set.class_map, setup.anchors_cxcywh, (height, width))
    patience = config.evaluation.patience if setup.val_set is not None else None
    effective = int(config.batch_size) * config.accumulate
    unit, total = config.length
    parameters = sum(p.numel() for p in setup.start.network.parameters())
    begin = f" from step {config.start_step:,} on" if config.start_step else ""
    facts = {
        "data": _describe_data(train_set, setup.val_set),
        **({"tiles": "\n".join(setup.tiled.lines())} if setup.tiled else {}),
        "model": f"{spec.name}, input {height} x {width} (height x width), {parameters / 1e6:.2f} million parameters",
        "start": "\n".join(setup.start.report.lines()),
        "boxes": "\n".join([*_scaled(setup.asked, fit.smallest_anchor), *fit.lines()]),
        "run": f"{total:g} {unit}{begin}, batch {effective}, {config.optimizer.name}, {setup.device}, {config.amp}",
        **({"devices": _describe_devices(setup, world)} if world.size > 1 else {}),
        "lr": setup.rate.reason,
        **({"stops": f"early after {_stale(config)} (`evaluation.patience=null`: never)"} if patience else {}),
    }
    if setup.frozen and setup.asked.freeze == "auto" and not setup.asked.finetune:
        facts["frozen"] = "the first layers, which take half of a CPU's time (`freeze=none` teaches them, too)"
    elif setup.frozen:
        more = " ..." if len(setup.frozen) > 6 else ""
        facts["frozen"] = f"{len(setup.frozen)} tensors: {', '.join(setup.frozen[:6])}{more}"
    if setup.asked.augment.mirror == "auto" and not config.augment.mirror:
        why = why_not_mirrored(train_set.class_map.names)
        facts["mirror"] = f"no: {why} (`augment.mirror={MIRROR}` mirrors half of the images)"
    fit_warnings = fit.warnings(is_fitted=setup.asked.anchors == "auto")
    return _table(facts, [*warnings, *fit_warnings, *remarks(train_set, setup.val_set)])


def conclude(result: TrainResult, config: TrainConfig, held_out: HeldOut | None) -> RichText:
    """What was reached by the deciding metric, on how much, and what to do next."""
    reached, metric = "", config.evaluation.metric
    if metric in result.metrics and held_out:
        on = f"{counted(len(held_out.images), 'held-out image')} with {counted(held_out.objects, 'object')}"
        reached = f"{metric} {result.metrics[metric]:.3f} on {on}; "
    text = RichText()
    if result.ending == "interrupted":
        again = f"singleshot train --resume --out {result.folder}"
        return text.append(f"stopped at step {result.steps:,}; everything is saved. Continue with: {again}\n")
    early = ""
    if result.ending == "early":
        early = f" (stopped early after {_stale(config)}; `evaluation.patience=null` with `resume=True` goes on)"
    text.append(f"{reached}{counted(result.steps, 'step')} in {clock(result.duration_s)}{early}\n", style="bold")
    command = f"singleshot predict IMAGES --model {result.best}"
    if config.tiling:
        (height, width), overlap = config.tiling.tile, config.tiling.overlap
        command = f"singleshot predict IMAGES --model {result.best} --tile {height}x{width} --overlap {overlap:g}"
    facts = {"weights": str(result.best), "try": command}
    if result.report:
        facts["report"] = str(result.report)
    return text.append(_table(facts, []))


def write_report(
    folder: Path,
    config: TrainConfig,
    metrics: Mapping[str, float],
    best: Measured | None,
    data: Sequence[Section] = (),
) -> Path:
    """Write ``report.html``: the result, the curves, the data, the evaluation of the best weights, the settings.

    Args:
        folder: of the run, with its ``metrics.csv``.
        config: the settings as used.
        metrics: of the best weights.
        best: their evaluation, if anything was measured.
        data: what `describe_run_data` made.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    log = folder / "metrics.csv"
    columns, _ = read_log(log)
    losses = {name.removeprefix("loss/"): log_series(log, name) for name in columns if name.startswith("loss/")}
    shown = [name for name in ("coco_AP", "coco_AP50", "voc_area", "voc_07") if name in columns]
    scores: Series = {name: log_series(log, name) for name in shown}
    sections = [
        curve_section(losses, scores, {"learning rate": log_series(log, "lr")}),
        *data,
        *(evaluation_sections(best) if best else []),
        Section("Numbers of the best weights", [Table(["metric", "value"], [[k, v] for k, v in metrics.items()])]),
        Section("Settings", [Code(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))]),
    ]
    return write_page(folder / "report.html", f"Training: {folder.name}", sections)


def describe_run_data(setup: Setup, loader: TrainLoader) -> list[Section]:
    """Sections of the report on the data and on the first training images; an image that is gone costs only these."""
    train_set, val_set = setup.train_set, setup.val_set
    own = datasets.splits(train_set.path)
    sections = [data_section(train_set, val_set, held_out_rule(train_set, val_set, own))]
    try:
        batch = loader.preview(PREVIEW_IMAGES)
    except SingleshotError as error:
        return [*sections, Section("Training images", [Text(f"They cannot be read any more: {error}")])]
    names = [sample.image_path.name for sample in setup.samples]
    return [*sections, batch_section(batch, train_set.class_map.names, names)]


def _scaled(asked: TrainConfig, smallest: float) -> list[str]:
    how = "to the training objects" if asked.anchors == "auto" else f"by {asked.anchor_scale or 1:g}"
    changed = asked.anchors == "auto" or asked.anchor_scale
    return [f"the model's default boxes are scaled {how}: the smallest is now {smallest:.0f} px"] if changed else []


def _describe_devices(setup: Setup, world: World) -> str:
    """``8 images a step: 2 devices x 4; BatchNorm over all 8``."""
    config = setup.config
    batch = int(config.batch_size)
    least, rest = divmod(batch, world.size)
    each = f"{least} or {least + 1}" if rest else f"{least}"
    often = f" x {config.accumulate} forward passes" if config.accumulate > 1 else ""
    text = f"{batch * config.accumulate} images a step: {world.size} devices x {each}{often}"
    if not has_batch_norm(setup.start.network) or config.batch_norm == "eval":
        return text
    return f"{text}; BatchNorm over {f'all {batch}' if config.sync_batch_norm is True else 'each device alone'}"


def _stale(config: TrainConfig) -> str:
    """``5 evaluations without a better coco_AP``."""
    wanted = config.evaluation
    by = f" by more than {wanted.min_delta:g}" if wanted.min_delta else ""
    return f"{counted(int(wanted.patience or 0), 'evaluation')} without a better {wanted.metric}{by}"


def _describe_data(train_set: DetectionDataset, val_set: DetectionDataset | None) -> str:
    names = train_set.class_map.names
    classes = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    objects = sum(len(sample) for sample in train_set)
    lines = [
        f"{train_set.path} ({train_set.format}): {counted(len(train_set), 'image')}, {counted(objects, 'object')} "
        f"in split '{train_set.split}'",
        f"{counted(len(names), 'class')}: {classes}",
    ]
    if val_set is not None:
        lines.append(f"measured on {counted(len(val_set), 'image')} of split '{val_set.split}'")
    return "\n".join(lines)


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
