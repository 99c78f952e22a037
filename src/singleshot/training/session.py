"""One session of a run: open the data, build, train, report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from singleshot.augment.orientation import why_not_mirrored
from singleshot.core.memory import keep_freed_memory
from singleshot.core.shortage import is_shortage, shortage
from singleshot.core.wording import counted
from singleshot.data.published import PublishedSplits
from singleshot.data.splitting import MIN_HELD_OUT
from singleshot.data.train_val import open_training
from singleshot.errors import SingleshotError
from singleshot.training.build import build_loader, build_trainer
from singleshot.training.checkpoint import RunState
from singleshot.training.checks import check_samples
from singleshot.training.config import TrainConfig
from singleshot.training.data_config import Reference
from singleshot.training.fingerprint import check_classes, compare_fingerprint, fingerprint, keep_fingerprint
from singleshot.training.held_out import HeldOut
from singleshot.training.job import Job
from singleshot.training.loader import TrainLoader
from singleshot.training.loggers.guarded import open_loggers
from singleshot.training.logs import CsvLog, LoggedRun, Observer
from singleshot.training.loop import Trainer
from singleshot.training.monitor import WeightMonitor
from singleshot.training.narration import conclude, describe_run_data, introduce, write_report
from singleshot.training.part_names import original_names
from singleshot.training.parts import NoStore
from singleshot.training.progress import ProgressBar
from singleshot.training.recipes import write_config
from singleshot.training.result import TrainResult, result_of
from singleshot.training.resume import load_run
from singleshot.training.run_folder import HEAD, UNSAVED, RunFolder, clear_results
from singleshot.training.setup import Setup, prepare
from singleshot.training.start import build_start, resume_start, with_weights
from singleshot.training.tiling import cut_into_tiles, view_plan_of
from singleshot.training.transcript import Transcript
from singleshot.training.worker_processes import explaining_workers
from singleshot.training.world import ALONE, World
from singleshot.weights.file import read_spec

# So few held-out objects choose by chance.
FEW_OBJECTS = 100

PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}


def run_session(
    config: TrainConfig,
    folder: Path,
    device: torch.device,
    console: Console,
    *,
    resume: bool,
    at: int | None = None,
    callbacks: Sequence[Observer] = (),
    world: World = ALONE,
    job: Job | None = None,
) -> TrainResult:
    """Build everything, train, report.

    Args:
        config: the settings, with the data's path.
        folder: of the run.
        device: where the network runs.
        console: where progress goes.
        resume: go on with the run in ``folder``.
        at: the numbered checkpoint to go back to; ``None`` goes on from the last save.
        callbacks: hear what happens, after everyone else.
        world: the processes that learn together; the first one prints and writes.
        job: notes for a restart.
    """
    with _memory_advice():
        setup, warnings = _set_up(config, folder, device, resume, world)
        held_out = _held_out(setup, world)
        if not world.is_first:
            return _follow(setup, held_out, folder, world, resume, at)
        warnings += [*_measuring(held_out), *_standing_still(setup), *_mirroring(setup)]
        data = fingerprint(setup.train_set, setup.val_set)
        if resume:
            warnings += compare_fingerprint(folder, data)
        introduction = introduce(setup, warnings, world)
        console.print(introduction, soft_wrap=True)
        loader = build_loader(setup, world)
        store = RunFolder(folder, setup.start.spec, setup.config.checkpoints.keep)
        trainer = build_trainer(setup, loader, store, held_out, world)
        if resume:
            trainer.run = load_run(folder, trainer.learner, setup.config.evaluation.metric, at)
        else:
            clear_results(folder)
        write_config(setup.config, folder / "config.yaml", HEAD)
        if not resume:
            (folder / UNSAVED).touch()
            keep_fingerprint(folder, data)
        if job and job.notes:
            if at is not None:  # a restart goes on from here, not from the latest save before
                store.save_weights("last", trainer.learner.deployable, {})
                store.save_state(trainer.learner, trainer.run)
            job.begin(folder)
        with closing(Transcript(console, folder / "train.log")) as transcript:
            transcript.log.print(introduction, soft_wrap=True)
            if resume:
                transcript.say(f"continuing {folder} at step {trainer.run.step:,}", **PLAIN)
            trainer.say = lambda text: transcript.say(text, **PLAIN)
            trainer.monitor = _monitor(setup, folder, trainer)
            trainer.observers = _observers(setup, folder, trainer, held_out, transcript, callbacks)
            result = _fit(trainer, setup, folder, trainer.monitor)
            if result.ending != "interrupted":
                report = _report(result, trainer.run, setup, held_out, loader, transcript)
                result = replace(result, report=report)
            transcript.say(conclude(result, setup.config, held_out), soft_wrap=True)
        return result


def _follow(
    setup: Setup, held_out: HeldOut | None, folder: Path, world: World, resume: bool, at: int | None
) -> TrainResult:
    """Train as one of several processes that neither print nor write."""
    trainer = build_trainer(setup, build_loader(setup, world), NoStore(), held_out, world)
    if resume:
        trainer.run = load_run(folder, trainer.learner, setup.config.evaluation.metric, at)
    return replace(_fit(trainer, setup, folder, None), is_first=False)


def _set_up(
    config: TrainConfig, folder: Path, device: torch.device, resume: bool, world: World
) -> tuple[Setup, list[str]]:
    """Open the data and prepare the run; what to worry about in the data."""
    config = with_weights(config)
    assert config.data is not None
    data = config.data
    train_set, val_set = open_training(
        data.path,
        data.train,
        data.val,
        data.format,
        data.bad_data,
        classes=data.classes,
        lower_names=data.lower_names,
        decisions=data.decisions,
        published=_published(config.reference),
    )
    if resume:
        check_classes(read_spec(folder / "last.safetensors").class_names, train_set.class_map.names, folder)
    if not config.keep_empty:
        train_set = train_set.without_empty()
    warnings = check_samples(train_set.samples, train_set.class_map, config.keep_empty)
    if device.type == "cpu":
        keep_freed_memory()
    tiling = config.tiling
    if tiling and not config.keep_empty:
        tiling = tiling.model_copy(update={"empty": 0.0})
    tiled = cut_into_tiles(train_set.samples, tiling) if tiling else None
    samples = tiled.samples if tiled else train_set.samples
    start = resume_start(folder) if resume else build_start(config, train_set.class_map, samples)
    return prepare(config, start, train_set, val_set, device, tiled, world), warnings


def _published(reference: Reference | None) -> PublishedSplits | None:
    if reference is None or reference.splits is None:
        return None
    return PublishedSplits(reference.splits.train, reference.splits.val, reference.test)


def _held_out(setup: Setup, world: World) -> HeldOut | None:
    if setup.val_set is None:
        return None
    config, spec = setup.config, setup.start.spec
    views = view_plan_of(config, spec) if config.tiling else None
    return HeldOut(spec, setup.val_set, config.evaluation, views, world)


def _fit(trainer: Trainer, setup: Setup, folder: Path, monitor: WeightMonitor | None) -> TrainResult:
    """Train, and close everything that listened, whatever one of them raises."""
    with ExitStack() as closing_all:
        closers = [*(observer.close for observer in trainer.observers), *([monitor.close] if monitor else [])]
        for close in reversed(closers):
            closing_all.callback(close)
        with explaining_workers(setup.config.workers):
            ending = trainer.fit()
    return result_of(folder, ending, trainer.run)


def _monitor(setup: Setup, folder: Path, trainer: Trainer) -> WeightMonitor | None:
    config, network = setup.config, trainer.learner.network
    if not config.monitor:
        return None
    originals = original_names(setup.start.spec, [name for name, _ in network.named_parameters()])
    path = folder / "monitor.csv"
    return WeightMonitor(path, network, config.monitor, config.monitor_pattern, originals, trainer.run.step)


def _measuring(held_out: HeldOut | None) -> list[str]:
    """What the numbers of the held-out images will be worth, before the first step."""
    if held_out is None:
        return ["nothing is held out: no weights are called best, and nothing tells how good they are"]
    if not held_out.objects:
        return ["no held-out image has an object: no weights are called best, and nothing ends early"]
    if held_out.objects < FEW_OBJECTS and len(held_out.images) >= MIN_HELD_OUT:  # of fewer images `remarks` speaks
        few = counted(held_out.objects, "object")
        return [f"{few} to measure on are few: differences between numbers are mostly chance"]
    return []


def _standing_still(setup: Setup) -> list[str]:
    """Which BatchNorm layers one image cannot teach."""
    if not setup.single_norms or setup.config.batch_norm == "eval":
        return []
    return [
        f"batch 1: {len(setup.single_norms)} BatchNorm layers see one number per channel, which has no variance; they "
        "keep the statistics of the starting point. `batch_size=2` would teach them"
    ]


def _mirroring(setup: Setup) -> list[str]:
    """Changes of images, asked for, that make objects of one class look like those of another."""
    asked, names = setup.asked.augment, setup.train_set.class_map.names
    asked_for = {
        "augment.mirror": asked.mirror != "auto" and asked.mirror and why_not_mirrored(names),
        "augment.flip": asked.flip and why_not_mirrored(names, upside_down=True),
    }
    return [
        f"{why}: mirrored, they look like others. `{key}=0` leaves images as they are"
        for key, why in asked_for.items()
        if why
    ]


def _observers(
    setup: Setup,
    folder: Path,
    trainer: Trainer,
    held_out: HeldOut | None,
    transcript: Transcript,
    callbacks: Sequence[Observer],
) -> list[Observer]:
    config, step = setup.config, trainer.run.step
    log = CsvLog(folder / "metrics.csv", step)
    if log.damage:
        transcript.say(f"warning: {log.damage}", **PLAIN)
    bars = [ProgressBar(console, config.evaluation.metric) for console in (transcript.screen, transcript.log)]
    settings = config.model_dump(mode="json")
    told = LoggedRun(folder, step, settings, lambda: held_out.latest if held_out else None, trainer.say)
    return [log, *bars, *open_loggers(config.log, told), *([held_out] if held_out else []), *callbacks]


def _report(
    result: TrainResult,
    run: RunState,
    setup: Setup,
    held_out: HeldOut | None,
    loader: TrainLoader,
    transcript: Transcript,
) -> Path | None:
    """Write ``report.html`` about ``result.best``; where it cannot be written, say why. The weights are safe by now."""
    try:
        measured = None
        if held_out and run.best:
            measured = held_out.kept(run.best)
            if measured is None:
                transcript.say("measuring the best weights, which are of a former session", **PLAIN)
                measured = held_out.of_file(result.best, setup.start.network)
        data = describe_run_data(setup, loader)
        return write_report(result.folder, setup.config, result.metrics, measured, data)
    except (SingleshotError, OSError) as error:
        transcript.say(f"no report: {error}", **PLAIN)
        return None


@contextmanager
def _memory_advice() -> Iterator[None]:
    """Say what to do when the memory is full."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, torch.OutOfMemoryError) or is_shortage(error)):
            raise
        raise SingleshotError(
            f"{shortage(error)}. Use a smaller "
            "`batch_size` and keep the effective one with `accumulate=2`, or `amp='bf16'`, or a smaller `size`"
        ) from error
