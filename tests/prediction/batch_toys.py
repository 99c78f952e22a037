"""A predictor that other processes build: it finds a box in each picture, by its brightness, and some kill it."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from singleshot.core.postprocess import PaddedDetections
from singleshot.core.settings import PreprocessConfig
from singleshot.prediction.batch.registry import Crew
from singleshot.prediction.batch.slices import Slice
from singleshot.prediction.batch.work import SliceReport, Work
from singleshot.prediction.pipeline import Predictor
from singleshot.runtime.base import TimedDetections

NAMES = ("cat", "dog")
KILLS = 250


class ByBrightness:
    """Of bright pictures a dog, of others a cat, as large as they are bright; of black ones nothing."""

    name = "by brightness"

    def predict(self, batch: np.ndarray) -> TimedDetections:
        light = batch.reshape(len(batch), -1).mean(1)
        for value in np.round(light):
            if value == KILLS:
                os.kill(os.getpid(), signal.SIGKILL)
        boxes = np.zeros((len(batch), 1, 4), np.float32)
        boxes[:, 0, 2:] = 1 + light[:, None] / 32
        counts = (light > 0).astype(np.int64)
        return TimedDetections(
            PaddedDetections(boxes, np.float32(light[:, None] / 300), (light[:, None] > 128).astype(np.int64), counts)
        )


def toy_predictor() -> Predictor:
    rules = PreprocessConfig(size_hw=(8, 8), mean=(0, 0, 0), scale=1)
    return Predictor(ByBrightness(), rules, NAMES, (3, 7))


class HereEngine:
    """The engine in one line: a worker in this process."""

    save = "json"

    def check(self, crew: Crew) -> None: ...

    def ready(self, crew: Crew) -> AbstractContextManager[object]:
        return nullcontext()

    def run(self, work: Work, slices: Sequence[Slice], crew: Crew) -> Generator[SliceReport, None, None]:
        worker = work.start()
        for own in slices:
            yield worker.do(own)
