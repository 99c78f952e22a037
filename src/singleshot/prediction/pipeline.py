"""Images in, detections out, batch by batch. A bad image becomes a `Failure` in its place and ends nothing.

Reading and preprocessing, the network, and whatever the caller does with the results (writing) overlap: readers work
ahead of the networks, these ahead of the caller, and a window bounds how far, so that memory does not grow.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from singleshot.core.memory import keep_freed_memory
from singleshot.core.postprocess import PaddedArrays, PaddedDetections
from singleshot.core.settings import PreprocessConfig
from singleshot.core.sizes import parse_batch_size
from singleshot.errors import ImageError
from singleshot.images.preprocess import preprocess_image
from singleshot.images.read import MAX_PIXELS, check_rgb, read_image
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Encoded, Failure, Frame, Prediction, Result
from singleshot.prediction.inputs import as_iterable, as_source, is_one
from singleshot.prediction.not_images import check_readable
from singleshot.prediction.views import View, ViewPlan, merge
from singleshot.runtime.base import Backend, cores

# Bytes for each thread: the photos that it holds at once, unless they are very large.
_KEPT_MEMORY = 2**24

STAGES = ("decode", "preprocess", "network", "postprocess", "write", "wait")


@dataclass(slots=True)
class StageTimes:
    """Seconds spent in each stage, summed over images (more than the wall clock where stages overlap).

    ``wait`` is what the caller waited for results while nothing else kept it busy.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, stage: str, since: float) -> float:
        """Count the time from ``since`` (of ``perf_counter``) until now; returns now. From any thread."""
        now = perf_counter()
        self.count(stage, now - since)
        return now

    def count(self, stage: str, seconds: float) -> None:
        """Count seconds. From any thread."""
        with self._lock:
            self.seconds[stage] += seconds


Batch = NDArray[np.float32] | Sequence[NDArray[np.uint8]]
"""Preprocessed images, or pictures for a backend that takes those."""


_MOST_INPUT = 2**28
"""Bytes of the input of many views that are computed ahead; beyond, each part is when the network takes it."""


@dataclass(frozen=True, slots=True)
class _Group:
    """A batch on its way: what was read, the views of what could be read, and the network's input, in their order.

    Of very many views ``batch`` holds the pixels, not yet preprocessed.
    """

    loaded: Sequence[Frame | Failure]
    views: Sequence[Sequence[View]]
    batch: Batch
    at_once: int


@dataclass(frozen=True, slots=True)
class Predictor:
    """The stages between a source and its detections, each a method, so that they can overlap.

    Attributes:
        backend: network and postprocessing.
        preprocess: how images become network input.
        class_names, category_ids: what class ids mean.
        max_pixels: larger images become failures.
        kept_ids: class ids that are reported; ``None`` reports all.
        most: detections of an image that are reported, best first.
        parallel: batches that the backend computes at the same time.
        times: where the time goes; shared by all stages.
        views: how a picture is looked at; by default once, as a whole.
        takes_pictures: whether the backend preprocesses by itself.
    """

    backend: Backend
    preprocess: PreprocessConfig
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()
    max_pixels: int | None = MAX_PIXELS
    parallel: int = 1
    times: StageTimes = field(default_factory=StageTimes)
    kept_ids: tuple[int, ...] | None = None
    most: int | None = None
    views: ViewPlan = field(default_factory=ViewPlan)
    takes_pictures: bool = False

    def stream(self, sources: Iterable[Any], batch_size: int = 8, *, live: bool = False) -> Iterator[Result]:
        """Detect in any number of images, a bounded number of them in memory.

        Args:
            sources: images as `as_source` takes them: paths, RGB arrays, Pillow images, tensors; frames; or one of
                these.
            batch_size: images that the network sees at once.
            live: whether nothing is read ahead: each result is of the newest image, and none waits.

        Returns:
            One result per source, in their order; what is no image is a `Failure`, too.

        Raises:
            ConfigError: a batch size that makes no sense.
            ImageError: the sources are neither an image nor a list of some.
        """
        parse_batch_size(batch_size)
        return self._stream([sources] if is_one(sources) else as_iterable(sources), batch_size, live)

    def _stream(self, sources: Iterable[Any], batch_size: int, live: bool) -> Iterator[Result]:
        rest = enumerate(sources)
        groups = iter(lambda: list(islice(rest, batch_size)), [])
        if live:
            for group in groups:
                yield from self._finish_group(self._read(group, batch_size))
            return
        first, second = next(groups, None), next(groups, None)
        if first is not None and second is None:
            yield from self._finish_group(self._read(first, batch_size))  # threads would only cost time
        elif first is not None and second is not None:
            yield from self._overlapped(chain([first, second], groups), batch_size)

    def load(self, item: Any, index: int = 0) -> Frame | Failure:
        """Read and check one image, the source's ``index``-th."""
        start = perf_counter()
        try:
            if isinstance(item, Failure):
                return item
            if isinstance(item, Frame):
                check_rgb(item.pixels)
                return item
            if isinstance(item, Encoded):
                return Frame(read_image(item.data, max_pixels=self.max_pixels), item.name, index)
            source = as_source(item)
            if isinstance(source, Path):
                check_readable(source)
                return Frame(read_image(source, max_pixels=self.max_pixels), str(source), index, is_file=True)
            return Frame(check_rgb(source), index=index)
        except ImageError as error:
            return Failure(_path_of(item), error)
        except Exception as error:  # whatever a decoder makes of a damaged file: it belongs to this image
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            return Failure(_path_of(item), ImageError(f"{_path_of(item) or 'an array'}: cannot be read: {reason}"))
        finally:
            self.times.add("decode", start)

    def detect(self, batch: Batch) -> PaddedArrays:
        """Run the backend; a batch of no image needs none."""
        if not len(batch):
            none = np.zeros((0, 0), dtype=np.float32)
            ids = np.zeros((0, 0), dtype=np.int64)
            return PaddedDetections(none.reshape(0, 0, 4), none, ids, ids.reshape(0))
        found, network_s, postprocess_s = self.backend.predict(cast("NDArray[np.float32]", batch))
        self.times.count("network", network_s)
        self.times.count("postprocess", postprocess_s)
        return found

    def finish(self, found: PaddedArrays, row: int, frame: Frame, views: Sequence[View] = ()) -> Prediction:
        """Detections of one image of a batch, in pixels of that image.

        Args:
            found: of the batch.
            row: where the image's views begin.
            frame: the image.
            views: what the rows show; by default the whole image, in one.
        """
        height, width = frame.pixels.shape[:2]
        input_wh = np.array(self.preprocess.size_hw[::-1] * 2, dtype=np.float32)
        parts = views or (View(0, 0, width, height),)
        kept = [slice(0, int(count)) for count in found.counts[row : row + len(parts)]]
        boxes = []
        for number, (view, part) in enumerate(zip(parts, kept, strict=True), row):
            in_view: NDArray[np.float32] = found.boxes_xyxy[number, part]
            boxes.append(view.place(in_view / input_wh))  # in this order edges stay exact
        detections = Detections(
            boxes_xyxy=np.concatenate(boxes),
            scores=np.concatenate([found.scores[number, part] for number, part in enumerate(kept, row)]),
            class_ids=np.concatenate([found.class_ids[number, part] for number, part in enumerate(kept, row)]),
            class_names=self.class_names,
            image_size_hw=(height, width),
            path=frame.path,
            category_ids=self.category_ids,
        )
        if len(parts) > 1:
            detections = merge(detections, self.views, self.most if self.kept_ids is None else None)
        if self.kept_ids is not None:
            detections = detections[np.isin(detections.class_ids, self.kept_ids)][: self.most]
        return Prediction(frame, detections)

    def _overlapped(self, groups: Iterable[Sequence[tuple[int, Any]]], at_once: int) -> Iterator[Result]:
        """Reading, network and caller at the same time; results in order."""
        keep_freed_memory(_KEPT_MEMORY)
        readers = ThreadPoolExecutor(cores(), "singleshot-read")
        networks = ThreadPoolExecutor(self.parallel, "singleshot-network")
        ahead: deque[Future[list[Result]]] = deque()
        try:
            for group in groups:
                ahead.append(networks.submit(self._finish_later, readers.submit(self._read, group, at_once)))
                if len(ahead) > 2 * self.parallel + 1:
                    yield from self._wait(ahead.popleft())
            while ahead:
                yield from self._wait(ahead.popleft())
        finally:
            networks.shutdown(wait=False, cancel_futures=True)
            readers.shutdown(cancel_futures=True)
            networks.shutdown()

    def _wait(self, results: Future[list[Result]]) -> list[Result]:
        start = perf_counter()
        found = results.result()
        self.times.add("wait", start)
        return found

    def _read(self, items: Sequence[tuple[int, Any]], at_once: int) -> _Group:
        """Read and preprocess a batch."""
        loaded = [self.load(item, index) for index, item in items]
        good = [frame.pixels for frame in loaded if not isinstance(frame, Failure)]
        views = [self.views.views(image.shape[:2]) for image in good]
        parts = [view.cut(image) for image, own in zip(good, views, strict=True) for view in own]
        if len(parts) > at_once and len(parts) * 12 * math.prod(self.preprocess.size_hw) > _MOST_INPUT:
            return _Group(loaded, views, parts, at_once)
        return _Group(loaded, views, self.input_of(parts), at_once)

    def input_of(self, parts: Batch) -> Batch:
        """What the backend reads, of pictures that may not be preprocessed yet."""
        if self.takes_pictures or isinstance(parts, np.ndarray):
            return parts
        batch = np.empty((len(parts), 3, *self.preprocess.size_hw), dtype=np.float32)
        start = perf_counter()
        for part, out in zip(parts, batch, strict=True):
            preprocess_image(part, self.preprocess, out)
        self.times.add("preprocess", start)
        return batch

    def _detect_in(self, parts: Batch) -> PaddedArrays:
        return self.detect(self.input_of(parts))

    def _finish_later(self, group: Future[_Group]) -> list[Result]:
        return self._finish_group(group.result())

    def _finish_group(self, group: _Group) -> list[Result]:
        """Detect in a batch that was read; of many views the network sees as many at once as of images."""
        parts = [group.batch[at : at + group.at_once] for at in range(0, len(group.batch), group.at_once)]
        if len(parts) < 2:
            found = self._detect_in(group.batch)
        else:
            with ThreadPoolExecutor(self.parallel, "singleshot-views") as pool:
                found = PaddedDetections(*map(_stacked, zip(*pool.map(self._detect_in, parts), strict=True)))
        views, row = iter(group.views), 0
        results: list[Result] = []
        for item in group.loaded:
            if isinstance(item, Failure):
                results.append(item)
                continue
            own = next(views)
            results.append(self.finish(found, row, item, own))
            row += len(own)
        return results


def _stacked(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Padded arrays of several batches as one: each has as many columns as its fullest image."""
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    width = max(part.shape[1] for part in parts)
    missing = [[(0, 0), (0, width - part.shape[1]), *[(0, 0)] * (part.ndim - 2)] for part in parts]
    return np.concatenate([np.pad(part, pad) for part, pad in zip(parts, missing, strict=True)])


def _path_of(item: Any) -> Path | None:
    """The file of a source; an array, or what is no image, has none."""
    return Path(item) if isinstance(item, (str, os.PathLike)) and isinstance(os.fspath(item), str) else None
