"""What runs the slices of a job: ours, and those of other packages (entry points of ``singleshot.batch_engines``)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from singleshot.core.registry import Registry
from singleshot.errors import SingleshotError
from singleshot.prediction.batch.slices import Slice
from singleshot.prediction.batch.work import SliceReport, Work


class EngineError(SingleshotError):
    """Workers cannot go on. What was done until then is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Who works.

    Attributes:
        workers: how many detectors; ``None`` leaves it to the engine.
        address: of the cluster; ``None`` is this machine.
        device: as in `Detector.predict`.
        note: is told what is done otherwise than asked.
    """

    workers: int | None = None
    address: str | None = None
    device: str = "auto"
    note: Callable[[str], object] = warnings.warn


class JobEngine(Protocol):
    """Runs the slices of a job, each once, wherever it likes."""

    @property
    def save(self) -> str:
        """What it writes where nothing is asked for; empty does as without an engine."""

    def check(self, crew: Crew) -> None:
        """Refuse, before any work, what it cannot do.

        Raises:
            ConfigError, MissingExtraError: it cannot, or is not installed.
        """

    def ready(self, crew: Crew) -> AbstractContextManager[object]:
        """Held from before earlier results are replaced to the end of the job: connects, if that is needed.

        Raises:
            ConfigError: there is nothing to connect to.
        """

    def run(self, work: Work, slices: Sequence[Slice], crew: Crew) -> Generator[SliceReport, None, None]:
        """What became of the slices, in their order; a bounded number of them is worked on ahead.

        A worker that dies is replaced, and its slice done again; a slice that is given up has no report, or one with a
        problem. Closing the generator ends the workers.

        Raises:
            EngineError: the workers cannot go on.
        """


BATCH_ENGINES: Registry[JobEngine] = Registry(
    "batch engine",
    {
        "processes": "singleshot.prediction.batch.processes",
        "ray": "singleshot.prediction.batch.ray_data",
    },
)
"""By the names that ``engine`` knows."""
