"""Images in, detections out, batch by batch. A bad image becomes a `Failure` in its place and ends nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from singleshot.backends.base import Backend, PaddedArrays
from singleshot.config import PreprocessConfig
from singleshot.detections import Detections
from singleshot.errors import ImageError
from singleshot.images import MAX_PIXELS, check_rgb, read_image
from singleshot.predict.preprocess import preprocess_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Source = Path | NDArray[np.uint8]

STAGES = ("decode", "preprocess", "network", "postprocess", "write")


@dataclass(frozen=True, slots=True)
class Prediction:
    """An image and what was found in it.

    Attributes:
        image: upright RGB, ``[H, W, 3]`` uint8.
        detections: in pixels of the image.
    """

    image: NDArray[np.uint8]
    detections: Detections


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


@dataclass(slots=True)
class StageTimes:
    """Seconds spent in each stage, summed over images (more than the wall clock where stages overlap)."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def add(self, stage: str, since: float) -> float:
        """Count the time from ``since`` (of ``perf_counter``) until now; returns now."""
        now = perf_counter()
        self.seconds[stage] += now - since
        return now


@dataclass(frozen=True, slots=True)
class Predictor:
    """The stages between a source and its detections, each a method, so that they can overlap.

    Attributes:
        backend: network and postprocessing.
        preprocess: how images become network input.
        class_names, category_ids: what class ids mean.
        max_pixels: larger images become failures.
        times: where the time goes; shared by all stages.
    """

    backend: Backend
    preprocess: PreprocessConfig
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()
    max_pixels: int | None = MAX_PIXELS
    times: StageTimes = field(default_factory=StageTimes)

    def stream(self, sources: Iterable[Source], batch_size: int = 8) -> Iterator[Result]:
        """Detect in any number of images, holding one batch of them at a time.

        Args:
            sources: paths and RGB arrays.
            batch_size: images that the network sees at once.

        Yields:
            One result per source, in their order.
        """
        rest = iter(sources)
        batch = np.empty((batch_size, 3, *self.preprocess.size_hw), dtype=np.float32)
        while group := list(islice(rest, batch_size)):
            yield from self._predict_group(group, batch)

    def load(self, source: Source) -> NDArray[np.uint8] | Failure:
        """Read and check one image."""
        start = perf_counter()
        try:
            if isinstance(source, Path):
                return read_image(source, max_pixels=self.max_pixels)
            return check_rgb(source)
        except ImageError as error:
            return Failure(source if isinstance(source, Path) else None, error)
        finally:
            self.times.add("decode", start)

    def detect(self, batch: NDArray[np.float32]) -> PaddedArrays:
        """Run the backend; a batch of no image needs none."""
        if not len(batch):
            none = np.zeros((0, 0), dtype=np.float32)
            ids = np.zeros((0, 0), dtype=np.int64)
            return PaddedArrays(none.reshape(0, 0, 4), none, ids, ids.reshape(0))
        found = self.backend.predict(batch)
        self.times.seconds["network"] += found.network_s
        self.times.seconds["postprocess"] += found.postprocess_s
        return found

    def finish(self, found: PaddedArrays, row: int, image: NDArray[np.uint8], source: Source) -> Prediction:
        """Detections of one image of a batch, in pixels of that image."""
        height, width = image.shape[:2]
        input_wh = np.array(self.preprocess.size_hw[::-1] * 2, dtype=np.float32)
        image_wh = np.array((width, height) * 2, dtype=np.float32)
        count = int(found.counts[row])
        detections = Detections(
            boxes_xyxy=found.boxes_xyxy[row, :count] / input_wh * image_wh,  # in this order edges stay exact
            scores=found.scores[row, :count],
            class_ids=found.class_ids[row, :count],
            class_names=self.class_names,
            image_size_hw=(height, width),
            path=source if isinstance(source, Path) else None,
            category_ids=self.category_ids,
        )
        return Prediction(image, detections)

    def _predict_group(self, group: Sequence[Source], batch: NDArray[np.float32]) -> Iterator[Result]:
        loaded = [self.load(source) for source in group]
        good = [image for image in loaded if not isinstance(image, Failure)]
        start = perf_counter()
        for image, out in zip(good, batch, strict=False):
            preprocess_image(image, self.preprocess, out)
        self.times.add("preprocess", start)
        found = self.detect(batch[: len(good)])
        row = 0
        for source, outcome in zip(group, loaded, strict=True):
            if isinstance(outcome, Failure):
                yield outcome
            else:
                yield self.finish(found, row, outcome, source)
                row += 1
