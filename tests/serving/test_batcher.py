"""The queue: bounded, in time, and nothing is computed for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest

from serving.toys import ToyDetector, ToyEngine, photo
from singleshot.errors import ConfigError
from singleshot.prediction.frames import Encoded, Failure, Frame, Prediction, Result
from singleshot.serving.batcher import Batcher, Thresholds
from singleshot.serving.options import ServeOptions
from singleshot.serving.pace import Pace
from singleshot.serving.problems import Closed, DeadlineMissed, QueueFull


def encoded(*values: int) -> list[Encoded]:
    return [Encoded(photo(value), f"{value}.png") for value in values]


def scores(future: Future[list[Result]]) -> list[list[int]]:
    results = future.result(20)
    assert all(isinstance(result, Prediction) for result in results)
    return [[round(255 * float(score)) for score in result.detections.scores] for result in results]  # type: ignore[union-attr]


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher(ToyDetector(), ServeOptions(queue=6, batch_size=4))
    yield batcher
    engine_of(batcher).go.set()
    batcher.close(20)


def engine_of(batcher: Batcher) -> ToyEngine:
    engine: ToyEngine = batcher.detector.engine  # type: ignore[attr-defined]
    return engine


def held_up(batcher: Batcher, value: int = 200) -> Future[list[Result]]:
    """A request that is being computed until ``engine.go`` is set."""
    engine_of(batcher).hold()
    future = batcher.submit(encoded(value))
    assert engine_of(batcher).is_in.wait(20)
    return future


def test_what_was_cancelled_is_let_go_at_once(batcher: Batcher) -> None:
    held_up(batcher)
    waiting = batcher.submit(encoded(1, 2, 3, 4, 5))
    wait_until_ready(batcher, 5)
    assert waiting.cancel()
    assert batcher.queued == 0


def wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.001)


def wait_until_ready(batcher: Batcher, count: int) -> None:
    """Until so many images are decoded and wait for the network."""
    wait_until(lambda: len(batcher._ready) >= count)


def test_no_image(batcher: Batcher) -> None:
    assert batcher.submit([]).result(1) == []


def test_results_are_in_order_and_those_of_predict(batcher: Batcher) -> None:
    values = [100, 0, 255, 80, 200]
    results = batcher.submit(encoded(*values), Thresholds(score=0.1)).result(20)
    images = [np.full((16, 12, 3), value, np.uint8) for value in values]
    for result, theirs in zip(results, batcher.detector.predict(images, 0.1), strict=True):
        assert isinstance(result, Prediction)
        assert result.detections.to_dict() == theirs.to_dict()
        assert result.detections.image_size_hw == (16, 12)


def test_requests_share_a_batch_and_keep_their_thresholds(batcher: Batcher) -> None:
    first = held_up(batcher)
    low = batcher.submit(encoded(200), Thresholds(score=0.1))
    high = batcher.submit(encoded(201), Thresholds(score=0.5))
    dogs = batcher.submit(encoded(202), Thresholds(score=0.1, classes=("dog",)))
    one = batcher.submit(encoded(203), Thresholds(score=0.1, max_detections=1))
    wait_until_ready(batcher, 4)
    engine_of(batcher).go.set()
    assert scores(first) == [[200, 100]]
    assert [scores(future) for future in (low, high, dogs)] == [[[200, 100, 50]], [[201]], [[101]]]
    assert scores(one) == [[203]]
    assert sorted(engine_of(batcher).batches[-1]) == [200, 201, 202, 203]


def test_a_full_queue_refuses_at_once(batcher: Batcher) -> None:
    running = held_up(batcher)
    waiting = [batcher.submit(encoded(value)) for value in range(1, 7)]
    begin = time.monotonic()
    with pytest.raises(QueueFull) as caught:
        batcher.submit(encoded(9))
    assert time.monotonic() - begin < 5
    assert caught.value.retry_after >= 0
    engine_of(batcher).go.set()
    assert len([*map(scores, [running, *waiting])]) == 7
    assert batcher.queued == 0
    assert scores(batcher.submit(encoded(255), Thresholds(score=0.6))) == [[255]]


def test_a_request_of_more_images_than_places_takes_none(batcher: Batcher) -> None:
    with pytest.raises(QueueFull):
        batcher.submit(encoded(*range(7)))
    assert batcher.queued == 0


def test_what_was_cancelled_is_not_computed_and_gives_its_place_back(batcher: Batcher) -> None:
    running = held_up(batcher)
    for future in [batcher.submit(encoded(value)) for value in range(1, 7)]:
        assert future.cancel()
    wait_until(lambda: batcher.queued == 0)  # a picture that is being decoded keeps its place until that is done
    waiting = batcher.submit(encoded(50, 51, 52, 53, 54, 55))
    engine_of(batcher).go.set()
    assert len(scores(running)) + len(scores(waiting)) == 7
    assert sorted(engine_of(batcher).computed) == [50, 51, 52, 53, 54, 55, 200]


def test_what_is_late_is_not_computed(batcher: Batcher) -> None:
    with pytest.raises(DeadlineMissed):
        batcher.submit(encoded(1), deadline=time.monotonic() - 1)
    running = held_up(batcher)
    late = batcher.submit(encoded(2), deadline=time.monotonic() + 0.05)
    time.sleep(0.1)
    engine_of(batcher).go.set()
    assert scores(running) == [[200, 100]]
    with pytest.raises(DeadlineMissed):
        late.result(20)
    assert engine_of(batcher).computed == [200]


def test_a_deadline_that_cannot_be_met_is_refused_at_once(batcher: Batcher) -> None:
    running = held_up(batcher)
    batcher.pace = Pace(4)
    batcher.pace.add(10.0)
    with pytest.raises(DeadlineMissed):
        batcher.submit(encoded(3), deadline=time.monotonic() + 5)
    batcher.pace._last -= 60  # an old measurement forbids nothing
    kept = batcher.submit(encoded(4), deadline=time.monotonic() + 20)
    engine_of(batcher).go.set()
    assert len(scores(running) + scores(kept)) == 2


def test_a_bad_image_beside_good_ones(batcher: Batcher) -> None:
    broken = Encoded(photo(1)[:-20], "broken.png")
    refused = Failure(None, ConfigError("too large"))  # type: ignore[arg-type]
    array = Frame(np.full((5, 5, 3), 255, np.uint8), "array")
    results = batcher.submit([broken, *encoded(255), refused, array], Thresholds(score=0.6)).result(20)
    assert [isinstance(result, Failure) for result in results] == [True, False, True, False]
    assert "cut off" in str(results[0].error)  # type: ignore[union-attr]
    assert results[2] is refused


def test_an_error_of_the_network_is_its_requests_own(batcher: Batcher) -> None:
    engine_of(batcher).error = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        batcher.submit(encoded(1, 2)).result(20)
    engine_of(batcher).error = None
    assert scores(batcher.submit(encoded(255), Thresholds(score=0.6))) == [[255]]


def test_wrong_thresholds(batcher: Batcher) -> None:
    with pytest.raises(ConfigError, match="no class 'horse'"):
        batcher.submit(encoded(1), Thresholds(classes=("horse",)))
    assert batcher.queued == 0


def test_closing_finishes_what_was_accepted() -> None:
    before = threading.active_count()
    batcher = Batcher(ToyDetector(), ServeOptions())
    running = held_up(batcher)
    waiting = batcher.submit(encoded(*range(1, 20)))
    threading.Timer(0.05, engine_of(batcher).go.set).start()
    batcher.close(20)
    assert len(waiting.result(0)) + len(running.result(0)) == 20
    with pytest.raises(Closed):
        batcher.submit(encoded(1))
    for _ in range(100):
        if threading.active_count() == before:
            break
        time.sleep(0.01)
    assert threading.active_count() == before


def test_decoded_pictures_wait_in_bounds() -> None:
    batcher = Batcher(ToyDetector(), ServeOptions(batch_size=1))
    running = held_up(batcher)
    waiting = batcher.submit(encoded(*range(30)))
    time.sleep(0.05)
    assert len(batcher._ready) + batcher._preparing <= 2
    engine_of(batcher).go.set()
    assert len(waiting.result(20)) + len(running.result(20)) == 31
    batcher.close(20)


def test_many_threads_get_their_own_answers() -> None:
    batcher = Batcher(ToyDetector(), ServeOptions(queue=1000, batch_size=8))
    wrong: list[object] = []

    def ask(first: int) -> None:
        for value in range(first, 256, 8):
            future = batcher.submit(encoded(value), Thresholds(score=0.0))
            if value % 5 == 0 and future.cancel():
                continue
            try:
                found = scores(future)
            except CancelledError:
                continue
            if found and found[0][:1] != ([value] if value else []):
                wrong.append((value, found))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    batcher.close(20)
    assert wrong == []
    assert batcher.queued == 0


@pytest.mark.parametrize(("ahead", "images", "least"), [(0, 1, 2.0), (3, 1, 2.0), (7, 1, 4.0), (40, 4, 22.0)])
def test_the_least_time_of_a_place_in_the_queue(ahead: int, images: int, least: float) -> None:
    pace = Pace(4)
    assert pace.least(ahead, images) == 0.0
    pace.add(2.0)
    pace.add(4.0)
    assert pace.least(ahead, images) == least
    assert pace.expected(8) == 6.0
