"""Progress on the terminal: a live bar where there is one, a line now and then where output goes to a file."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from singleshot.training.logs import EvaluationRecord, StepRecord

LINE_EVERY_S = 15.0
# What a line shows besides the deciding metric; the log has the rest.
HEADLINES = ("coco_AP", "coco_AP50", "voc_area")


class ProgressBar:
    """Shows epochs, steps, loss, learning rate, speed and remaining time.

    Args:
        console: where to print.
        metric: the deciding metric, shown first after each evaluation.
    """

    def __init__(self, console: Console, metric: str) -> None:
        self._console = console
        self._metric = metric
        self._last_line_s = -LINE_EVERY_S
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[state]}"),
            console=console, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=None, state="")
        if console.is_terminal:
            self._bar.start()

    def on_step(self, record: StepRecord) -> None:
        """Move the bar, or print a line every few seconds."""
        place = (
            f"epoch {record.epoch:.1f}/{record.epochs:.1f}  step {record.step:,}/{record.steps:,}"
            if record.steps
            else f"epoch {record.epoch:.1f}  step {record.step:,}"
        )
        state = (
            f"loss {record.losses['total']:.3f}  lr {record.lr:.2e}  {record.images_per_s:.1f} img/s  "
            f"{clock(record.remaining_s)} left"
        )
        if self._console.is_terminal:
            self._bar.update(
                self._task, description=place, total=record.steps or None, completed=record.step, state=state
            )
        elif time.monotonic() - self._last_line_s >= LINE_EVERY_S:
            self._last_line_s = time.monotonic()
            self._console.print(f"{place}  {state}", highlight=False, soft_wrap=True)

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Print the metrics above the bar."""
        shown = dict.fromkeys([self._metric, *HEADLINES])
        numbers = "  ".join(f"{name} {record.metrics[name]:.4f}" for name in shown if name in record.metrics)
        mark = "  (best)" if record.best else ""
        self._console.print(
            f"epoch {record.epoch:.1f}  step {record.step:,}  {numbers}{mark}  [{record.duration_s:.1f} s]",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def close(self) -> None:
        """Remove the bar."""
        if self._console.is_terminal:
            self._bar.stop()


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
