"""Running what was asked for: alone, or as one of the processes that learn together."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from singleshot.core.transforms import Transform, steps_by_name
from singleshot.errors import SingleshotError
from singleshot.runtime.device import choose_device
from singleshot.training.config import TrainConfig, parse_config
from singleshot.training.job import Job, this_job
from singleshot.training.launch import rank_device
from singleshot.training.loggers.guarded import require_loggers
from singleshot.training.logs import Observer
from singleshot.training.request import Request, check_transform, new_settings, registered
from singleshot.training.result import TrainResult
from singleshot.training.resume import check_number, resumed_settings, saved_settings
from singleshot.training.run_folder import existing_folder, holds_run, new_folder, sole_use
from singleshot.training.session import run_session
from singleshot.training.worker_processes import WorkerError
from singleshot.training.world import LostError, StoppedError, World, in_world, is_lost_connection, open_world


class RunPlan(NamedTuple):
    """What a run does, and where.

    Attributes:
        config: its settings.
        folder: of the run.
        resume: whether it goes on.
        at: the numbered checkpoint that it goes back to.
    """

    config: TrainConfig
    folder: Path
    resume: bool
    at: int | None


def run_request(
    request: Request, transform: Transform | None, callbacks: Sequence[Observer], console: Console | None
) -> TrainResult:
    """Train as asked for; of several processes the first one decides, prints and writes.

    Args:
        request: what was asked for.
        transform, callbacks, console: as in `singleshot.train`.

    Raises:
        StoppedError: another process of the run ended with an error, which it tells.
    """
    job = this_job()
    if job.restarts and job.has_failed():
        raise StoppedError("the run has ended with an error, which a restart would repeat")
    own = registered(transform)
    with _told_once(job):
        device = rank_device(request.devices, request.device) if in_world() else choose_device(request.device)
        with open_world(device) as world, _quiet(world):
            plan = _common(world, _course(request, own, job) if world.is_first else None)
            try:
                steps_by_name(plan.config.augment.transforms)
                require_loggers(plan.config.log)
                with sole_use(plan.folder) if world.is_first else nullcontext():
                    result = run_session(
                        plan.config,
                        plan.folder,
                        device,
                        console or Console(),
                        resume=plan.resume,
                        at=plan.at,
                        callbacks=callbacks,
                        world=world,
                        job=job,
                    )
            finally:
                with suppress(OSError):
                    plan.folder.rmdir()  # if nothing was written
    return result


def _course(request: Request, own: str, job: Job) -> RunPlan:
    """Of a new run, whose folder is made, or of the one that goes on, as after a restart."""
    begun = job.begun()
    if begun is not None and holds_run(begun):
        return RunPlan(saved_settings(begun), begun, True, None)
    if begun is None and request.resume is not False:
        folder = existing_folder(request.out)
        at = None if isinstance(request.resume, bool) else request.resume
        if at is not None:
            check_number(folder, at)
        config = resumed_settings(saved_settings(folder), request.changes, folder)
        check_transform(config, own, folder)
        return RunPlan(config, folder, True, at)
    config = new_settings(request.recipe, request.changes)
    if own:
        config = config.updated({"augment.transforms": [*config.augment.transforms, own]})
    assert config.data is not None
    out = request.out if begun is None else begun
    overwrite = request.overwrite or begun is not None
    return RunPlan(config, new_folder(out, Path(config.data.path).resolve().stem, overwrite=overwrite), False, None)


def _common(world: World, plan: RunPlan | None) -> RunPlan:
    """The first process's plan, in all of them."""
    if world.size == 1 and plan is not None:
        return plan
    own: list[Any] = (
        [] if plan is None else [plan.config.model_dump(mode="json"), str(plan.folder.resolve()), *plan[2:]]
    )
    settings, folder, resume, at = world.first(own)
    return plan or RunPlan(parse_config(settings, "the first process"), Path(folder), resume, at)


@contextmanager
def _told_once(job: Job) -> Iterator[None]:
    """Of the processes that an error ends one tells it; the others raise what nobody needs to see.

    A mistake of the user is final; where a device failed or a process died, a restart may help.
    """
    try:
        yield
    except Exception as error:
        is_final = isinstance(error, SingleshotError) and not isinstance(error, WorkerError)
        if not job.tell(is_final=is_final):
            raise StoppedError(f"another process of the run has ended: {error}") from error
        if job.notes and is_lost_connection(error):
            raise LostError(
                f"lost the connection to the other processes: {str(error).splitlines()[0]} (if nothing else says why: "
                "NCCL_DEBUG=INFO in the environment tells more of GPUs)"
            ) from error
        raise
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        job.forget()


@contextmanager
def _quiet(world: World) -> Iterator[None]:
    """What all processes would say the first one says; but each names the images that only it has seen."""
    levels = {} if world.is_first else {"singleshot": logging.ERROR, "singleshot.training.loader": logging.WARNING}
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
