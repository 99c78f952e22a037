"""What sources give and sinks take: frames, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singleshot.errors import ImageError
from singleshot.images.guides import Guide
from singleshot.prediction.detections import Detections
from singleshot.prediction.tracking.counting import Crossing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """One image on its way from a source to the sinks.

    Attributes:
        pixels: upright RGB, ``[H, W, 3]`` uint8.
        name: what its results are filed under: the file's path, ``clip.mp4/00012``; empty for an array.
        index: its number among the images of its source, from 0.
        time_s: seconds since a video began; ``None`` of a still image.
        is_file: whether ``name`` is the path of a file that holds this image.
    """

    pixels: NDArray[np.uint8]
    name: str = ""
    index: int = 0
    time_s: float | None = None
    is_file: bool = False

    @property
    def path(self) -> Path | None:
        """The image file, where there is one."""
        return Path(self.name) if self.is_file else None

    @property
    def source(self) -> str:
        """The video or stream that a frame is of; empty for images of their own."""
        return "" if self.time_s is None else self.name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of an image file that is no file: an upload.

    Attributes:
        data: as a file would hold them.
        name: what its results are filed under.
    """

    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """The bytes of an image that are had when it is its turn, by a thread that reads.

    Attributes:
        read: gives them; raises an `ImageError` where it cannot.
        name: what its results are filed under.
    """

    read: Callable[[], bytes]
    name: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A frame and what was found in it: ``for frame, found in model.stream("clip.mp4")``.

    Attributes:
        frame: the image.
        detections: in pixels of the image.
        crossings: tracks that went over a line since the frame before.
        guides: zones and lines that pictures show, too.
    """

    frame: Frame
    detections: Detections
    crossings: Sequence[Crossing] = ()
    guides: Sequence[Guide] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter((self.frame, self.detections))


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read.

    Attributes:
        path: the file; ``None`` for an array.
        error: says why, and names the file.
    """

    path: Path | None
    error: ImageError


Result = Prediction | Failure
