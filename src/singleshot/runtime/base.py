"""What every backend offers: a preprocessed batch in, padded detections out. No torch here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from singleshot.core.postprocess import PaddedArrays
from singleshot.core.settings import PostprocessConfig

FloatPrecision = Literal["fp32", "bf16"]
"""What convolutions are computed in; scores, boxes and NMS are float32 in any case."""


class TimedDetections(NamedTuple):
    """What a network found in a batch, and what that took.

    Attributes:
        found: detections.
        network_s: seconds that the network took.
        postprocess_s: seconds from its output to detections.
    """

    found: PaddedArrays
    network_s: float = 0.0
    postprocess_s: float = 0.0


class Backend(Protocol):
    """A network with its postprocessing, ready to run."""

    @property
    def name(self) -> str:
        """What runs, for people: ``torch fp32``."""

    # A backend may also have ``parallel: int``, the batches that it computes at the same time (1 without).

    def predict(self, batch: NDArray[np.float32]) -> TimedDetections:
        """Detect in a batch.

        Args:
            batch: preprocessed images, ``[B, 3, H, W]`` float32; the caller may overwrite it after the call.
        """


Settings = PostprocessConfig | Sequence[PostprocessConfig]
"""Thresholds and NMS: of a whole batch, or of each of its images."""


class Engine(Protocol):
    """A network compiled for a device and a precision. Thresholds and NMS are arguments of a call."""

    @property
    def name(self) -> str:
        """What runs, for people: ``torch fp32``."""

    @property
    def device(self) -> str:
        """Where: ``cpu``, ``cuda:0``."""

    @property
    def parallel(self) -> int:
        """Batches that it computes at the same time."""

    def predict(self, batch: NDArray[np.float32], settings: Settings) -> TimedDetections:
        """Detect in a batch; from any thread, several at once.

        Args:
            batch: as for `Backend.predict`.
            settings: thresholds and NMS, of all images or one for each.
        """


@dataclass(frozen=True, slots=True)
class EngineBackend:
    """An engine with the thresholds of one caller: a `Backend`.

    Attributes:
        engine: shared with callers that want other thresholds.
        settings: thresholds and NMS.
    """

    engine: Engine
    settings: PostprocessConfig

    @property
    def name(self) -> str:
        """What runs, for people."""
        return self.engine.name

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.engine.device

    @property
    def parallel(self) -> int:
        """Batches that are computed at the same time."""
        return self.engine.parallel

    @property
    def takes_pictures(self) -> bool:
        """Whether it preprocesses by itself: batches are pictures, ``[H, W, 3]`` uint8 of any sizes."""
        return getattr(self.engine, "takes_pictures", False)

    def predict(self, batch: NDArray[np.float32]) -> TimedDetections:
        """Detect in a batch ``[B, 3, H, W]``."""
        return self.engine.predict(batch, self.settings)


def predict_each(backends: Sequence[Backend], batch: NDArray[np.float32]) -> TimedDetections:
    """Detect in a batch whose images go by thresholds of their own: the network runs once.

    Args:
        backends: of each image, ``[B]``; all of one engine.
        batch: as for `Backend.predict`.
    """
    first = backends[0]
    if isinstance(first, EngineBackend):
        return first.engine.predict(batch, [own.settings for own in backends if isinstance(own, EngineBackend)])
    return first.predict(batch)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
