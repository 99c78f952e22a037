"""Slices over a Ray cluster: Ray Data with an actor for each detector. Needs the extra ``ray``."""

from __future__ import annotations

import logging
import math
import os
import pickle
import signal
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from singleshot.core.lazy import lazy_module
from singleshot.core.wording import counted
from singleshot.errors import ConfigError, MissingExtraError
from singleshot.prediction.batch.processes import ProcessEngine
from singleshot.prediction.batch.registry import BATCH_ENGINES, Crew, EngineError
from singleshot.prediction.batch.slices import Slice
from singleshot.prediction.batch.work import SliceReport, Work
from singleshot.prediction.settings import check_whole

if TYPE_CHECKING:
    import ray
    import ray.data as ray_data
else:
    ray, ray_data = lazy_module("ray"), lazy_module("ray.data")

_RETRIES = 5
"""Of a slice whose worker died; then processes of this machine do it, which find the image that kills."""
_BLOCKS = 4096
"""Tasks that a job is made of at most: beyond, a task is several slices."""


class RayEngine:
    """A cluster, or Ray on this machine."""

    save = "parquet"

    def check(self, crew: Crew) -> None:
        """Refuse where Ray is not installed.

        Raises:
            MissingExtraError: it is not.
            ConfigError: no whole number of workers.
        """
        if find_spec("ray") is None:
            raise MissingExtraError("ray", "ray", "`engine='ray'`")
        if crew.workers is not None:
            check_whole(crew.workers, "workers", most=100_000)

    def ready(self, crew: Crew) -> AbstractContextManager[object]:
        """Connected."""
        return connected(crew.address)

    def run(self, work: Work, slices: Sequence[Slice], crew: Crew) -> Generator[SliceReport, None, None]:
        """What became of the slices, in their order; those that Ray gives up on are done by processes of this machine.

        Raises:
            ConfigError: there is no cluster.
            EngineError: no worker can begin, or the cluster is gone.
        """
        if not slices:
            return
        with connected(crew.address), _quiet():
            share = _share(crew, len(slices))
            rows = [{"slice": pickle.dumps(own)} for own in slices]
            dataset = ray_data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS))
            with warnings.catch_warnings():
                # it ends with Ray 2.64, without a successor; without it, a slice that kills its worker is done for ever
                warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
                done = dataset.map_batches(
                    _Actor,
                    fn_constructor_args=(pickle.dumps(work), os.getcwd()),
                    batch_size=1,
                    compute=ray_data.ActorPoolStrategy(size=share.pop("workers")),
                    max_task_retries=_RETRIES,
                    **share,
                )
            batches = iter(done.iter_batches(batch_size=1, prefetch_batches=1))
            awaited = deque(slices)
            while batch := _next(batches):
                for pickled in batch["report"]:
                    report: SliceReport = pickle.loads(pickled)  # noqa: S301  our own actor made it
                    yield from _do_here(work, _before(awaited, report.start), crew)
                    awaited.popleft()
                    yield report
            yield from _do_here(work, list(awaited), crew)


def _before(awaited: deque[Slice], start: int) -> list[Slice]:
    """The slices that come before the one that begins with an image, taken off."""
    passed = []
    while awaited[0].start != start:
        passed.append(awaited.popleft())
    return passed


def _do_here(work: Work, slices: Sequence[Slice], crew: Crew) -> Iterator[SliceReport]:
    if slices:
        images = counted(sum(len(own.images) for own in slices), "image")
        deaths = _RETRIES + 1
        crew.note(f"Ray gave up on {images}: workers died of it {deaths} times; this machine's processes take over")
        yield from ProcessEngine().run(work, slices, replace(crew, workers=1, address=None))


def _next(batches: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return next(batches, None)
    except Exception as error:  # of many kinds
        raise EngineError(f"Ray cannot go on: {(str(error).strip() or repr(error)).splitlines()[-1]}") from error


class _Actor:
    """A worker in an actor.

    Args:
        work: pickled `Work`.
        folder: of the driver, which paths are relative to.
    """

    def __init__(self, work: bytes, folder: str) -> None:
        with suppress(OSError):  # another machine, without it: then paths are absolute, or there are none
            os.chdir(folder)
        own: Work = pickle.loads(work)  # noqa: S301  the driver made it
        self._worker = own.start()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        reports = [self._worker.do(pickle.loads(own)) for own in batch["slice"]]  # noqa: S301
        return {"report": np.array([pickle.dumps(report) for report in reports], dtype=object)}


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to a cluster, or to Ray on this machine; one that is there already stays.

    Args:
        address: of the cluster: ``auto``, ``HOST:6379``, ``ray://HOST:10001``; ``None`` starts one here.

    Raises:
        ConfigError: there is no cluster.
    """
    if ray.is_initialized():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports what a cluster of its own is used for
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own handler leaves without a word of what was done
    except Exception as error:  # of many kinds, among them Exception itself
        raise ConfigError(_why_not(address, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _why_not(address: str | None, error: Exception) -> str:
    """What Ray says, or what it hides behind that."""
    if "InvalidAuthToken" in f"{error} {error.__cause__}":
        return (
            f"`address={address}`: the cluster asks for a token: copy ~/.ray/auth_token of its head to this machine, "
            "and set RAY_AUTH_MODE=token in the environment"
        )
    where = "Ray does not start here" if address is None else f"`address={address}`: no cluster"
    return f"{where}: {(str(error) or repr(error)).splitlines()[0]}"


def _share(crew: Crew, slices: int) -> dict[str, Any]:
    """How many actors, and what each has: one for a GPU, else one for a core."""
    there = ray.cluster_resources()
    gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
    on_gpu = gpus > 0 and crew.device != "cpu"
    most = gpus if on_gpu else max(1, cores)
    workers = min(crew.workers or most, slices)
    if on_gpu:
        return {"workers": workers, "num_gpus": 1 if workers <= gpus else gpus / workers}
    return {
        "workers": workers,
        "num_cpus": max(1, math.floor(cores / workers)) if workers <= cores else cores / workers,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Results in the order of the slices; the progress is ours; a slice that Ray gives up on does not end the job."""
    context = ray_data.DataContext.get_current()
    before = (context.execution_options.preserve_order, context.enable_progress_bars, context.max_errored_blocks)
    context.execution_options.preserve_order = True
    context.enable_progress_bars, context.max_errored_blocks = False, -1
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        context.execution_options.preserve_order, context.enable_progress_bars, context.max_errored_blocks = before


BATCH_ENGINES.register("ray")(RayEngine())
