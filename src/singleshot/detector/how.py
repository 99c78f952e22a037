"""What `Detector`'s calls take."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

PathLike = str | os.PathLike[str]
ImageLike = PathLike | NDArray[np.uint8]
Classes = Collection[str | int] | str | int


# On a CPU one image at a time is quickest: the maps of more leave its caches (SSDLite: 32 ms an image at 1, 59 at 8).
BATCH_SIZE = 1


class How(TypedDict, total=False):
    """The options of `Detector.predict`, which explains them."""

    nms_iou: float | None
    max_detections: int | None
    agnostic: bool
    top_k: int | None
    classes: Classes | None
    clip: bool | None
    batch_size: int
    backend: str
    precision: str
    device: str
    compile: bool
