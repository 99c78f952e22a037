"""Loggers that end no run: one that fails is told in a line, and hears nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from singleshot.errors import MissingExtraError
from singleshot.training.logs import EvaluationRecord, LoggedRun, Observer, StepRecord
from singleshot.training.registry import LOGGERS


class GuardedLog:
    """A logger whose errors end no run.

    Args:
        name: of its kind.
        open: makes it.
        say: hears when it fails.
    """

    def __init__(self, name: str, open: Callable[[], Observer], say: Callable[[str], None]) -> None:
        self._name = name
        self._say = say
        self._log: Observer | None = None
        with self._telling():
            self._log = open()

    def on_step(self, record: StepRecord) -> None:
        """Pass it on."""
        with self._telling():
            if self._log:
                self._log.on_step(record)

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Pass it on."""
        with self._telling():
            if self._log:
                self._log.on_evaluation(record)

    def close(self) -> None:
        """Close it."""
        with self._telling():
            if self._log:
                self._log.close()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of another package: any
            self._log = None
            reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            self._say(f"{self._name}: nothing is logged there any more: {reason}. The run goes on, metrics.csv has all")


def require_loggers(names: Sequence[str]) -> None:
    """Refuse a logger whose package is not installed, before anything is done.

    Raises:
        MissingExtraError: names the extra.
    """
    for name in names:
        package = LOGGERS.get(name, "log").package
        if package and find_spec(package) is None:
            raise MissingExtraError(package, package, f"`log={name!r}`")


def open_loggers(names: Sequence[str], run: LoggedRun) -> list[Observer]:
    """The loggers of a run. One that cannot be opened is told and left out."""
    return [GuardedLog(name, _opener(name, run), run.say) for name in names]


def _opener(name: str, run: LoggedRun) -> Callable[[], Observer]:
    return lambda: LOGGERS.get(name, "log").build(run)
