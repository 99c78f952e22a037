"""TensorBoard events."""

from __future__ import annotations

import math
from contextlib import suppress

from singleshot.errors import ImageError
from singleshot.evaluation.pictures import draw_comparison, find_mistakes
from singleshot.training.logs import EvaluationRecord, LoggedRun, StepRecord, step_numbers
from singleshot.training.registry import LOGGERS, LoggerKind

SHOWN_IMAGES = 4
"""Held-out images whose detections TensorBoard shows."""


class TensorBoardLog:
    """TensorBoard events in the run's folder ``tensorboard``; later events of a former session are hidden."""

    def __init__(self, run: LoggedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._latest = run.latest
        folder = str(run.folder / "tensorboard")
        self._writer = SummaryWriter(folder, purge_step=run.step or None)

    def on_step(self, record: StepRecord) -> None:
        """Losses, learning rate and speed."""
        for name, value in step_numbers(record).items():
            self._writer.add_scalar(name, value, record.step)

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Metrics; the average precision of each class, and the first images with what was found and missed."""
        for name, value in record.metrics.items():
            self._writer.add_scalar(f"metrics/{name}", value, record.step)
        result = self._latest()
        if result is None:
            return
        for item in result.per_class:
            if not math.isnan(item.voc_area):
                self._writer.add_scalar(f"classes/{item.name}", item.voc_area, record.step)
        mistakes = find_mistakes(
            result.truth, result.detections, result.metrics.matching, result.metrics.best_threshold
        )
        for image in range(min(len(result.samples), SHOWN_IMAGES)):
            with suppress(ImageError):  # gone since the run began
                picture = draw_comparison(result, image, mistakes)
                self._writer.add_image(f"predictions/{image}", picture, record.step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


LOGGERS.register("tensorboard")(LoggerKind(TensorBoardLog, "tensorboard"))
