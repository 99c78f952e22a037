"""Stages overlap, memory is bounded, order and failures stay, and nothing hangs when the caller stops."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from singleshot.core.postprocess import PaddedDetections
from singleshot.core.settings import PreprocessConfig
from singleshot.images.read import write_image
from singleshot.prediction.frames import Failure, Frame, Prediction
from singleshot.prediction.pipeline import Predictor
from singleshot.runtime.base import TimedDetections

CONFIG = PreprocessConfig(size_hw=(4, 4), resize="linear", mean=(0.0, 0.0, 0.0))


class Meeting:
    """Lets a batch pass only when ``parallel`` of them are inside; the first pixel becomes the score."""

    name = "meeting"

    def __init__(self, parallel: int) -> None:
        self.barrier = threading.Barrier(parallel)
        self.most = 0
        self._inside = 0
        self._lock = threading.Lock()

    def predict(self, batch: np.ndarray) -> TimedDetections:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        self.barrier.wait(timeout=20)
        with self._lock:
            self._inside -= 1
        scores = batch[:, :1, 0, 0] / 255
        boxes = np.tile(np.float32([0, 0, 1, 1]), (len(batch), 1, 1))
        ids, counts = np.zeros((len(batch), 1), np.int64), np.ones(len(batch), np.int64)
        return TimedDetections(PaddedDetections(boxes, scores, ids, counts), 0.0, 0.0)


def photos(count: int) -> list[np.ndarray]:
    return [np.full((5, 5, 3), index, np.uint8) for index in range(count)]


def scores(results: list[object]) -> list[int]:
    return [round(255 * float(result.detections.scores[0])) for result in results]  # type: ignore[attr-defined]


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_batches_run_at_the_same_time_and_come_in_order(parallel: int) -> None:
    backend = Meeting(parallel)
    predictor = Predictor(backend, CONFIG, ("thing",), parallel=parallel)
    assert scores(list(predictor.stream(photos(24), 2))) == list(range(24))
    assert backend.most == parallel


def test_bad_images_among_good_ones(tmp_path: Path) -> None:
    predictor = Predictor(Meeting(1), CONFIG, ("thing",))
    sources = [item for image in photos(6) for item in (image, tmp_path / "missing.jpg")]
    results = list(predictor.stream(sources, 1))
    assert [isinstance(result, Failure) for result in results] == [False, True] * 6
    assert scores([result for result in results if isinstance(result, Prediction)]) == list(range(6))


def test_a_caller_may_stop_early() -> None:
    before = threading.active_count()
    predictor = Predictor(Meeting(1), CONFIG, ("thing",))
    stream = predictor.stream(photos(50), 1)
    assert scores([next(stream), next(stream)]) == [0, 1]
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_an_error_of_the_backend_reaches_the_caller() -> None:
    class Broken(Meeting):
        def predict(self, batch: np.ndarray) -> TimedDetections:
            raise RuntimeError("out of memory")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="out of memory"):
        list(Predictor(Broken(1), CONFIG, ("thing",)).stream(photos(9), 2))
    assert threading.active_count() == before


def test_times_of_all_threads_are_counted() -> None:
    predictor = Predictor(Meeting(2), CONFIG, ("thing",), parallel=2)
    list(predictor.stream(photos(8), 1))
    assert {stage for stage, seconds in predictor.times.seconds.items() if seconds > 0} >= {"decode", "preprocess"}


@pytest.mark.parametrize("count", [1, 5])
def test_frames_keep_their_names_numbers_and_times(count: int) -> None:
    predictor = Predictor(Meeting(1), CONFIG, ("thing",))
    given = [Frame(image, f"clip/{index}", 10 + index, index / 25) for index, image in enumerate(photos(count))]
    results = list(predictor.stream(iter(given), 2))
    assert [result.frame for result in results if isinstance(result, Prediction)] == given
    assert {result.detections.path for result in results if isinstance(result, Prediction)} == {None}


def test_files_and_arrays_become_frames(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", photos(8)[7])
    predictor = Predictor(Meeting(1), CONFIG, ("thing",))
    file, array, missing = predictor.stream([tmp_path / "a.png", photos(1)[0], tmp_path / "b.png"], 1)
    assert isinstance(file, Prediction)
    assert isinstance(array, Prediction)
    assert isinstance(missing, Failure)
    assert (file.frame.name, file.frame.path, file.frame.index) == (str(tmp_path / "a.png"), tmp_path / "a.png", 0)
    assert file.frame.pixels[0, 0].tolist() == [7, 7, 7]
    assert (array.frame.name, array.frame.path, array.frame.index, array.frame.time_s) == ("", None, 1, None)
