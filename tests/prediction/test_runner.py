"""The stages between images and detections, with a backend that is not a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from singleshot.core.postprocess import PaddedDetections
from singleshot.core.settings import PreprocessConfig
from singleshot.errors import ImageError
from singleshot.images.read import write_image
from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.job import run_job
from singleshot.prediction.pipeline import Predictor
from singleshot.runtime.base import TimedDetections

CONFIG = PreprocessConfig(size_hw=(10, 20), resize="linear", mean=(0.0, 0.0, 0.0))


class RedBackend:
    """Finds one box in the left half of an image; class 1 where the image is red, nothing where it is black."""

    name = "red"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, batch: np.ndarray) -> TimedDetections:
        self.batches.append(len(batch))
        red, light = batch[:, 0].mean((1, 2)) > 200, batch.mean((1, 2, 3)) > 0
        boxes = np.broadcast_to(np.float32([0, 0, 10, 10]), (len(batch), 1, 4)).copy()
        scores = np.full((len(batch), 1), 0.75, dtype=np.float32)
        found = PaddedDetections(boxes, scores, np.int64(red)[:, None], np.int64(light))
        return TimedDetections(found, 0.5, 0.25)


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(RedBackend(), CONFIG, ("other", "red"), (7, 9), max_pixels=10_000)


def image(red: int, size_hw: tuple[int, int] = (30, 40)) -> np.ndarray:
    return np.full((*size_hw, 3), (red, 0, 0), dtype=np.uint8)


def test_no_image(predictor: Predictor) -> None:
    assert list(predictor.stream([])) == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_results_keep_their_order_in_batches_of_any_size(predictor: Predictor, batch_size: int) -> None:
    reds = [255, 0, 100, 255, 0]
    sizes = [(30, 40), (5, 5), (60, 20), (7, 9), (1, 1)]
    results = list(predictor.stream([image(r, s) for r, s in zip(reds, sizes, strict=True)], batch_size))
    assert all(isinstance(result, Prediction) for result in results)
    found = [result.detections for result in results if isinstance(result, Prediction)]
    assert [f.names for f in found] == [["red"], [], ["other"], ["red"], []]
    assert [f.image_size_hw for f in found] == sizes
    assert found[2].boxes_xyxy.tolist() == [[0, 0, 10, 60]]
    assert found[2].category_ids == (7, 9)
    assert max(predictor.backend.batches) <= batch_size  # type: ignore[attr-defined]


def test_failures_stand_in_their_place(predictor: Predictor, tmp_path: Path) -> None:
    write_image(tmp_path / "good.png", image(255))
    write_image(tmp_path / "big.png", image(255, (200, 200)))
    (tmp_path / "bad.png").write_bytes(b"no")
    paths = [tmp_path / name for name in ("bad.png", "good.png", "missing.png", "big.png", "good.png")]
    results = list(predictor.stream(paths, 3))
    assert [isinstance(result, Failure) for result in results] == [True, False, True, True, False]
    assert [result.path.name for result in results if isinstance(result, Failure)] == [
        "bad.png", "missing.png", "big.png",
    ]  # fmt: skip
    good = results[1]
    assert isinstance(good, Prediction)
    assert good.detections.path == paths[1]
    assert good.detections.names == ["red"]


def test_a_batch_of_failures_runs_no_network(predictor: Predictor, tmp_path: Path) -> None:
    results = list(predictor.stream([tmp_path / "none.jpg"] * 5, 2))
    assert all(isinstance(result, Failure) for result in results)
    assert predictor.backend.batches == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("parallel", [1, 3])
def test_stream_reads_a_bounded_number_of_batches_ahead(predictor: Predictor, parallel: int) -> None:
    taken: list[int] = []

    def endless() -> object:
        while True:
            taken.append(1)
            yield image(255)

    results = replace(predictor, parallel=parallel).stream(endless(), 4)  # type: ignore[arg-type]
    for _ in range(40):
        next(results)
    assert len(taken) <= 40 + 4 * (2 * parallel + 2)


def test_times_are_accounted(predictor: Predictor) -> None:
    list(predictor.stream([image(255)] * 4, 2))
    assert predictor.times.seconds["network"] == 1.0
    assert predictor.times.seconds["postprocess"] == 0.5
    assert predictor.times.seconds["preprocess"] > 0


class RecordingSink:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def __enter__(self) -> RecordingSink:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, prediction: Prediction) -> None:
        self.seen.append(",".join(prediction.detections.names))

    def fail(self, failure: Failure) -> None:
        self.seen.append(str(failure.error))


@pytest.mark.parametrize("on_result", [None, lambda result: None])
def test_job_sends_everything_to_the_sinks(predictor: Predictor, on_result: Callable[[object], None] | None) -> None:
    sink = RecordingSink()
    failure = Failure(Path("x.jpg"), ImageError("x.jpg: broken"))
    results = [*predictor.stream([image(255), image(0)]), failure]
    summary = run_job(results, [sink], predictor.times, on_result)
    assert sink.seen == ["red", "", "x.jpg: broken"]
    assert (summary.images, summary.objects, summary.failures) == (2, {"red": 1}, [failure])
    assert "images/s" in summary.time_line()
    assert summary.times.seconds["network"] == 0.5
    assert summary.images_per_s > 0
