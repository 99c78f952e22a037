"""What a run tells while it learns: records, and the files that keep them."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from singleshot.core.files import is_regular, write_atomically
from singleshot.evaluation.numbers import Measured


@dataclass(frozen=True, slots=True)
class StepRecord:
    """Where a run is and how it does; losses are means since the last record.

    Attributes:
        step, steps: optimiser steps made, and of the whole run (an estimate when its length is a time).
        epoch: how often the data was seen so far.
        epochs: the same at the end of the run.
        lr: learning rate of the weights.
        losses: by name, ``total`` among them.
        images_per_s: images learnt per second.
        wait_share: part of the time in which the network waited for data.
        remaining_s: seconds to the end, as far as one can tell.
    """

    step: int
    steps: int
    epoch: float
    epochs: float
    lr: float
    losses: Mapping[str, float]
    images_per_s: float
    wait_share: float
    remaining_s: float


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """Numbers of one evaluation.

    Attributes:
        step, epoch: where the run was.
        metrics: by name.
        best: whether the deciding metric is the best so far.
        duration_s: seconds it took.
    """

    step: int
    epoch: float
    metrics: Mapping[str, float]
    best: bool
    duration_s: float


OBSERVED = ("on_step", "on_evaluation", "close")
"""What an `Observer` has."""


class Observer(Protocol):
    """Hears what happens in a run."""

    def on_step(self, record: StepRecord) -> None:
        """Called every few steps."""

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Called after each evaluation."""

    def close(self) -> None:
        """Called once at the end, also after an error."""


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """What a logger is told of a run before its first step.

    Attributes:
        folder: of the run; its name is the run's.
        step: where the run begins; above 0 it goes on, and records of later steps come again.
        settings: as in ``config.yaml``.
        latest: gives the whole result of the evaluation that was just made.
        say: tells the user one line.
    """

    folder: Path
    step: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    latest: Callable[[], Measured | None] = lambda: None
    say: Callable[[str], None] = lambda text: None


def step_numbers(record: StepRecord) -> dict[str, float]:
    """Numbers of a record by the names that loggers show: ``loss/total``, ``lr``, ``speed/images_per_s``."""
    losses = {f"loss/{name}": value for name, value in record.losses.items()}
    speed = {"speed/images_per_s": record.images_per_s, "speed/wait_share": record.wait_share}
    return {**losses, "lr": record.lr, **speed}


def evaluation_numbers(record: EvaluationRecord) -> dict[str, float]:
    """Metrics that are numbers, as ``metrics/coco_AP``."""
    return {f"metrics/{name}": value for name, value in record.metrics.items() if not math.isnan(value)}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key, such as ``optimizer.lr``."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


class CsvLog:
    """``metrics.csv``: one row per record. A new kind of number adds a column.

    Args:
        path: the file; rows of a former session up to ``step`` are kept, later ones are dropped, since a resumed run
            makes those steps again. A damaged file is put aside.
        step: where the run begins.

    Attributes:
        damage: what was wrong with the file of a former session, and where it is now; empty if nothing was.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self._path = path
        self.damage = ""
        self._columns, rows = self._former() if os.path.lexists(path) else (["step", "epoch"], [])
        kept = [row for row in rows if int(row["step"]) <= step and step > 0]
        self._write_all(kept)
        self._file: TextIO = self._open()

    def on_step(self, record: StepRecord) -> None:
        """One row of losses, learning rate and speed."""
        numbers = {f"loss/{name}": value for name, value in record.losses.items()}
        speed = {"lr": record.lr, "images_per_s": record.images_per_s, "wait_share": record.wait_share}
        self._add(record.step, record.epoch, numbers | speed)

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """One row of metrics."""
        self._add(record.step, record.epoch, dict(record.metrics))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _former(self) -> tuple[list[str], list[dict[str, str]]]:
        try:
            if not is_regular(self._path):
                raise ValueError("no ordinary file")
            return _checked(*read_log(self._path))
        except (OSError, ValueError, TypeError, csv.Error) as error:  # TypeError: a line of too many cells
            numbers = ("", *(f"-{number}" for number in range(2, 10_000)))
            names = (self._path.with_name(f"{self._path.stem}-damaged{n}{self._path.suffix}") for n in numbers)
            aside = next(name for name in names if not os.path.lexists(name))
            self._path.rename(aside)
            reason = str(error).partition("\n")[0][:100]
            self.damage = f"{self._path} is damaged ({reason}): kept as {aside.name}, a new log begins"
            return ["step", "epoch"], []

    def _add(self, step: int, epoch: float, numbers: Mapping[str, float]) -> None:
        new = [name for name in numbers if name not in self._columns]
        if new:
            self._file.close()
            _, rows = read_log(self._path)
            self._columns += new
            self._write_all(rows)
            self._file = self._open()
        row = {"step": step, "epoch": f"{epoch:.4f}"} | {k: f"{v:.6g}" for k, v in numbers.items()}
        csv.DictWriter(self._file, self._columns).writerow(row)
        self._file.flush()

    def _open(self) -> TextIO:
        return self._path.open("a", newline="", encoding="utf-8")

    def _write_all(self, rows: list[dict[str, str]]) -> None:
        lines = [",".join(self._columns), *(",".join(row.get(c, "") for c in self._columns) for row in rows)]
        write_atomically(self._path, "\r\n".join(lines) + "\r\n")


def _checked(columns: list[str], rows: list[dict[str, str]]) -> tuple[list[str], list[dict[str, str]]]:
    """The same, if everything that must be a number is one."""
    if columns[:1] != ["step"]:
        raise ValueError("no column 'step'")
    for row in rows:
        int(row["step"])
        for value in row.values():
            float(value)
    return columns, rows


def read_log(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a ``metrics.csv``; empty cells are left out, a last line cut short by a crash is dropped."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ["step", "epoch"])
        rows = [{k: v for k, v in row.items() if v} for row in reader if None not in row.values()]
    return columns, [row for row in rows if "step" in row]


def log_series(path: Path, column: str) -> tuple[list[int], list[float]]:
    """Steps and values of one column of a ``metrics.csv``, for a chart."""
    _, rows = read_log(path)
    present = [row for row in rows if column in row]
    return [int(row["step"]) for row in present], [float(row[column]) for row in present]
