"""What a detector finds in the images, computed beside the page: those that are looked at first, then the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from singleshot.browsing.collection import Collection
from singleshot.browsing.contradictions import Contradictions, find_contradictions
from singleshot.errors import SingleshotError
from singleshot.evaluation.metrics.class_match import match_classes
from singleshot.evaluation.metrics.tables import DetectionTable
from singleshot.prediction.frames import Failure, Result

AT_ONCE = 8
AGAIN = 1.25
"""Contradictions are ranked again when there are so many times the images that they were ranked for."""


class Finder(Protocol):
    """What is asked of a `Predictor`."""

    @property
    def class_names(self) -> Sequence[str]:
        """What it can find."""

    def stream(self, paths: Iterable[Path], batch_size: int) -> Iterable[Result]:
        """What is found in each image."""


class SecondOpinion:
    """Detections of the images of a collection, in memory.

    Args:
        finder: a predictor; detections of classes that the data lacks are left out.
        collection: the images.
        name: of the model, for the page.

    Raises:
        DataError: the two share no class.
    """

    def __init__(self, finder: Finder, collection: Collection, name: str) -> None:
        self.name = name
        self.error = ""
        self.unreadable = 0
        self._finder = finder
        self._collection = collection
        data_names = collection.dataset.class_map.names
        match = match_classes(finder.class_names, data_names)
        self._to_data = np.append(match.data_ids, -1)[match.model_to_shared(len(finder.class_names))]
        self._known = np.isin(np.arange(len(data_names)), match.data_ids)
        self._found: list[DetectionTable | None] = [None] * len(collection)
        self._seen = np.zeros(len(collection), dtype=bool)
        self._done = 0
        self._wanted: deque[int] = deque(maxlen=256)
        self._lock = Lock()
        self._ended = Event()
        self._ranked: tuple[int, Contradictions, DetectionTable] | None = None
        self._thread = Thread(target=self._work, name="second opinion", daemon=True)

    @property
    def done(self) -> int:
        """Images that have been looked at."""
        return self._done

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """End after the images at hand."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def wait(self, timeout_s: float) -> None:
        """Until all images are done, or the time is over."""
        self._thread.join(timeout_s)

    def want(self, images: Iterable[int]) -> None:
        """Look at these first."""
        self._wanted.extend(image for image in images if self._found[image] is None)

    def of(self, image: int) -> DetectionTable | None:
        """Detections of an image in the data's classes, the surest first; ``None`` where nobody has looked yet."""
        return self._found[image]

    def suspects(self) -> tuple[Contradictions, DetectionTable]:
        """The likeliest label mistakes of the images looked at so far, and the detections that they name."""
        with self._lock:
            done = self._done
            whole = done == len(self._collection)
            if self._ranked is None or (done > self._ranked[0] and (whole or done >= AGAIN * self._ranked[0])):
                self._ranked = (done, *self._rank())
            return self._ranked[1:]

    def _rank(self) -> tuple[Contradictions, DetectionTable]:
        found = list(self._found)
        tables = [
            DetectionTable(np.full(len(table), image), table.class_ids, table.boxes_xyxy, table.scores)
            for image, table in enumerate(found)
            if table is not None and len(table)
        ]
        table = DetectionTable.concatenate(tables)
        ranked = find_contradictions(self._collection.truth, table, self._known)
        seen = self._seen[ranked.images]  # of what nobody has looked at, or could, no label is refuted
        kept = Contradictions(
            ranked.kinds[seen], ranked.images[seen], ranked.objects[seen], ranked.detections[seen], ranked.scores[seen]
        )
        return kept, table

    def _work(self) -> None:
        try:
            for images in iter(self._next, []):
                self._look_at(images)
        except SingleshotError as error:
            self.error = str(error)
        except Exception as error:  # the page goes on without a model, and says why
            self.error = f"{type(error).__name__}: {error}"

    def _next(self) -> list[int]:
        if self._ended.is_set():
            return []
        images: list[int] = []
        while self._wanted and len(images) < AT_ONCE:
            image = self._wanted.popleft()
            if self._found[image] is None and image not in images:
                images.append(image)
        if images:
            return images
        self._place = next((at for at in range(self._place, len(self._found)) if self._found[at] is None), len(self))
        rest = range(self._place, min(self._place + AT_ONCE, len(self)))
        return [image for image in rest if self._found[image] is None]

    _place = 0

    def __len__(self) -> int:
        return len(self._found)

    def _look_at(self, images: Sequence[int]) -> None:
        paths = [self._collection.dataset.samples[image].image_path for image in images]
        for image, result in zip(images, self._finder.stream(paths, AT_ONCE), strict=True):
            self._seen[image] = not isinstance(result, Failure)
            self._found[image] = self._table(result)
            self._done += 1

    def _table(self, result: Result) -> DetectionTable:
        if isinstance(result, Failure):
            self.unreadable += 1
            return DetectionTable.concatenate([])
        found = result.detections
        order: NDArray[np.int64] = np.argsort(-found.scores, kind="stable")
        table = DetectionTable(np.zeros(len(found), np.int64), found.class_ids, found.boxes_xyxy, found.scores)
        return table.take(order).relabel(self._to_data)


def open_second_opinion(
    model: str, collection: Collection, score: float, *, device: str = "auto", say: Callable[[str], object] = print
) -> SecondOpinion:
    """Load a detector for a collection.

    Args:
        model: a weights file, or the name of a bundled detector.
        collection: the images.
        score: least confidence of a detection.
        device: where it runs.
        say: is told which classes count for nothing.

    Raises:
        WeightsError: the model cannot be read.
        DataError: the two share no class.
    """
    from singleshot.detector import load

    detector = load(model)
    match = match_classes(detector.class_names, collection.dataset.class_map.names)
    if match.only_data:
        say(f"{model} does not know {', '.join(match.only_data)}: labels of these are never called mistakes")
    predictor = detector.predictor(score, device=device, images=len(collection))
    return SecondOpinion(predictor, collection, model)
