"""What a detector finds in the images, computed beside the page: those that are looked at first, then the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Event, Lock, Thread
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.browsing.collection import Collection
from singleshot.detector import load
from singleshot.doctor.evidence import weigh
from singleshot.doctor.opinions import IMAGES_AT_ONCE, Judge, Opinion, open_judge
from singleshot.doctor.suspects import KINDS, likely_classes
from singleshot.errors import ImageError, SingleshotError
from singleshot.evaluation.metrics.class_match import match_classes
from singleshot.evaluation.metrics.tables import DetectionTable

AGAIN = 1.25
"""Suspects are ranked again when there are so many times the images that they were ranked for."""


class Ranking(NamedTuple):
    """Labels and places to look at, the likeliest mistakes first.

    Attributes:
        kinds: of `singleshot.doctor.suspects.KINDS`, ``[M]``.
        images: ``[M]``.
        objects: rows of the collection's objects, -1 of something without a label, ``[M]``.
        detections: rows of ``found``: the detection that contradicts, or is without a label; -1 where none is, ``[M]``.
        likely: for a ``wrong-class`` the class that is seen instead, of the data's classes; else -1, ``[M]``.
        scores: 0 to 1, for the order only, ``[M]``.
        found: detections in the data's classes.
    """

    kinds: NDArray[np.str_]
    images: NDArray[np.int64]
    objects: NDArray[np.int64]
    detections: NDArray[np.int64]
    likely: NDArray[np.int64]
    scores: NDArray[np.float64]
    found: DetectionTable


class SecondOpinion:
    """What a detector thinks of the images of a collection, in memory.

    Args:
        judge: the detector; detections of classes that the data lacks are left out.
        collection: the images.
        name: of the model, for the page.
        score: least confidence of a detection that is shown.

    Raises:
        DataError: the two share no class.
    """

    def __init__(self, judge: Judge, collection: Collection, name: str, score: float = 0.0) -> None:
        self.name = name
        self.error = ""
        self.unreadable = 0
        self._judge = judge
        self._score = score
        self._collection = collection
        self._match = match = match_classes(judge.class_names, collection.dataset.class_map.names)
        self._to_data = np.append(match.data_ids, -1)[match.model_to_shared(len(judge.class_names))]
        self._found: list[DetectionTable | None] = [None] * len(collection)
        self._opinions: list[Opinion | None] = [None] * len(collection)
        self._done = 0
        self._wanted: deque[int] = deque(maxlen=256)
        self._lock = Lock()
        self._ended = Event()
        self._ranked: tuple[int, Ranking] | None = None
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

    def suspects(self) -> Ranking:
        """The likeliest label mistakes of the images looked at so far, as `singleshot doctor` finds them."""
        with self._lock:
            done = self._done
            whole = done == len(self._collection)
            if self._ranked is None or (done > self._ranked[0] and (whole or done >= AGAIN * self._ranked[0])):
                self._ranked = (done, self._rank())
            return self._ranked[1]

    def _rank(self) -> Ranking:
        """Of what nobody has looked at, or could, no label is doubted."""
        names, starts = self._collection.dataset.class_map.names, self._collection.starts
        evidence = weigh(
            self._match,
            self._collection.truth,
            list(self._opinions),
            model_count=len(self._judge.class_names),
            data_count=len(names),
        )
        to_data = np.array(self._match.data_ids)
        rows = starts[evidence.truth.image_index] + evidence.objects
        likely = to_data[likely_classes(evidence)]
        found = evidence.detections.relabel(to_data)
        parts = []
        for kind, find in KINDS.items():
            suspects = find(evidence)
            nobody = np.full(len(suspects.rows), -1)
            if kind == "missing-label":
                parts.append((kind, found.image_index[suspects.rows], nobody, suspects.rows, nobody, suspects))
            else:
                images = evidence.truth.image_index[suspects.rows]
                other = likely[suspects.rows] if kind == "wrong-class" else nobody
                parts.append((kind, images, rows[suspects.rows], suspects.partners, other, suspects))
        kinds = np.concatenate([np.full(len(part[1]), part[0]) for part in parts])
        images, objects, detections, other = (np.concatenate([part[at] for part in parts]) for at in (1, 2, 3, 4))
        scores = np.concatenate([part[5].suspicions for part in parts])
        order = np.argsort(-scores, kind="stable")
        return Ranking(
            kinds[order], images[order], objects[order], detections[order], other[order], scores[order], found
        )

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
        while self._wanted and len(images) < IMAGES_AT_ONCE:
            image = self._wanted.popleft()
            if self._found[image] is None and image not in images:
                images.append(image)
        if images:
            return images
        self._place = next((at for at in range(self._place, len(self._found)) if self._found[at] is None), len(self))
        rest = range(self._place, min(self._place + IMAGES_AT_ONCE, len(self)))
        return [image for image in rest if self._found[image] is None]

    _place = 0

    def __len__(self) -> int:
        return len(self._found)

    def _look_at(self, images: Sequence[int]) -> None:
        samples = [self._collection.dataset.samples[image] for image in images]
        for image, opinion in zip(images, self._judge.look_at(samples), strict=True):
            if isinstance(opinion, ImageError):
                self.unreadable += 1
                self._found[image] = DetectionTable.concatenate([])
            else:
                self._opinions[image] = _slim(opinion)
                self._found[image] = self._shown(opinion)
            self._done += 1

    def _shown(self, opinion: Opinion) -> DetectionTable:
        """Detections of an image in the data's classes, the surest first."""
        order: NDArray[np.int64] = np.argsort(-opinion.scores, kind="stable")
        order = order[opinion.scores[order] >= self._score]
        none = np.zeros(len(opinion.scores), np.int64)
        table = DetectionTable(none, opinion.class_ids, opinion.boxes_xyxy, opinion.scores)
        return table.take(order).relabel(self._to_data)


def _slim(opinion: Opinion) -> Opinion:
    """The same in half of the memory: shares are compared with hundredths."""
    shares = opinion.class_shares
    return opinion if shares is None else opinion._replace(class_shares=shares.astype(np.float16))


def open_second_opinion(
    model: str, collection: Collection, score: float, *, device: str = "auto", say: Callable[[str], object] = print
) -> SecondOpinion:
    """Load a detector for a collection.

    Args:
        model: a weights file, or the name of a bundled detector.
        collection: the images.
        score: least confidence of a detection that is shown.
        device: where it runs.
        say: is told which classes count for nothing.

    Raises:
        WeightsError: the model cannot be read.
        DataError: the two share no class.
    """
    detector = load(model)
    match = match_classes(detector.class_names, collection.dataset.class_map.names)
    if match.only_data:
        say(f"{model} does not know {', '.join(match.only_data)}: labels of these are never called mistakes")
    return SecondOpinion(open_judge(detector, device, len(collection)), collection, model, score)
