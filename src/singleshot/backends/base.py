"""What every backend offers: a preprocessed batch in, padded detections out. No torch here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
        postprocess_s: seconds from its output to detections; 0 where it is part of the compiled network.
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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
