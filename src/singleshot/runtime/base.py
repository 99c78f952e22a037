"""What every backend offers: a preprocessed batch in, padded detections out. No torch here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from singleshot.core.settings import PostprocessConfig


FloatPrecision = Literal["fp32", "bf16"]
"""What convolutions are computed in; scores, boxes and NMS are float32 in any case."""


class PaddedArrays(NamedTuple):
    """Detections of a batch as NumPy arrays, best first, padded to the largest image.

    Attributes:
        boxes_xyxy: pixels of the network input, ``[B, D, 4]`` float32.
        scores: ``[B, D]`` float32.
        class_ids: 0..C-1, -1 where padded, ``[B, D]`` int64.
        counts: detections of each image, ``[B]`` int64.
        network_s: seconds that the network took.
        postprocess_s: seconds from its output to detections.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    network_s: float = 0.0
    postprocess_s: float = 0.0


class Backend(Protocol):
    """A network with its postprocessing, ready to run."""

    @property
    def name(self) -> str:
        """What runs, for people: ``torch fp32``."""

    # A backend may also have ``parallel: int``, the batches that it computes at the same time (1 without).

    def predict(self, batch: NDArray[np.float32]) -> PaddedArrays:
        """Detect in a batch.

        Args:
            batch: preprocessed images, ``[B, 3, H, W]`` float32; the caller may overwrite it after the call.
        """


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

    def predict(self, batch: NDArray[np.float32], settings: PostprocessConfig) -> PaddedArrays:
        """Detect in a batch; from any thread, several at once.

        Args:
            batch: as for `Backend.predict`.
            settings: thresholds and NMS.
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

    def predict(self, batch: NDArray[np.float32]) -> PaddedArrays:
        """Detect in a batch ``[B, 3, H, W]``."""
        return self.engine.predict(batch, self.settings)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
