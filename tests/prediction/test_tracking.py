"""ByteTrack's parts against plain forms: the filter of 8 dimensions, all assignments, videos made in code."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from singleshot import Detections
from singleshot.errors import ConfigError
from singleshot.prediction.tracking import Tracker, TrackerConfig
from singleshot.prediction.tracking.assignment import Edges, assign, overlaps, solve
from singleshot.prediction.tracking.kalman import MEASUREMENT_NOISE, PROCESS_NOISE, CornerFilter


def found(boxes: object, scores: object = 0.9, class_ids: object = 0) -> Detections:
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    count = len(corners)
    return Detections(
        corners, np.broadcast_to(scores, count), np.broadcast_to(class_ids, count), ("cat", "dog"), (100, 100)
    )


def ids_of(tracked: Detections) -> list[int]:
    assert tracked.track_ids is not None
    return tracked.track_ids.tolist()


def best_sum(similarity: NDArray[np.float64]) -> float:
    """By trying every assignment."""
    if similarity.shape[0] > similarity.shape[1]:
        similarity = similarity.T
    height, width = similarity.shape
    return max(sum(similarity[i, j] for i, j in enumerate(order)) for order in permutations(range(width), height))


matrices = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.sampled_from([0.0, 0.0, 0.05, 0.2, 0.5, 0.7, 0.95]), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@given(matrices)
@settings(deadline=None)
def test_assignment_has_the_largest_sum(rows: list[list[float]]) -> None:
    similarity = np.array(rows)
    pairs = Edges(*np.nonzero(similarity), similarity[similarity > 0])
    row, column = assign(pairs, 0.0)
    assert len(set(row)) == len(row)
    assert len(set(column)) == len(column)
    assert row.tolist() == sorted(row)
    assert similarity[row, column].sum() == pytest.approx(best_sum(similarity))
    assert similarity[solve(similarity)].sum() == pytest.approx(best_sum(similarity))
    strong, _ = assign(pairs, 0.3)
    assert set(strong) <= set(row)


def test_assignment_equals_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    random = np.random.default_rng(0)
    for _ in range(200):
        similarity = random.random(random.integers(1, 40, 2))
        similarity *= random.random(similarity.shape) < random.choice([0.1, 0.3, 1.0])
        row, column = optimize.linear_sum_assignment(similarity, maximize=True)
        kept = similarity[row, column] >= 0.1
        ours = assign(Edges(*np.nonzero(similarity), similarity[similarity > 0]), 0.1)
        assert [x.tolist() for x in ours] == [row[kept].tolist(), column[kept].tolist()]


def test_overlaps_are_the_iou_of_what_overlaps() -> None:
    pairs = overlaps(np.array([[0.0, 0, 10, 10], [50, 50, 60, 60]]), np.array([[5.0, 5, 15, 15], [10, 0, 20, 10]]))
    assert pairs.rows.tolist() == [0]
    assert pairs.columns.tolist() == [0]
    assert pairs.values.tolist() == pytest.approx([25 / 175])


def test_filter_is_the_one_of_eight_dimensions() -> None:
    random = np.random.default_rng(1)
    first = random.uniform(0, 100, (3, 4))
    ours = CornerFilter()
    ours.add(first)
    states = [np.concatenate((row, np.zeros(4))) for row in first]
    covariances = [np.eye(8) for _ in first]
    pick = np.eye(4, 8)
    for step in range(12):
        frames = 1.0 if step % 3 else 2.5
        ours.predict(frames)
        move = np.eye(8) + frames * np.eye(8, k=4)
        noise = PROCESS_NOISE * np.eye(8)
        if frames != 1:
            gain = np.concatenate((np.eye(4) * frames**2 / 2, np.eye(4) * frames))
            noise = PROCESS_NOISE * gain @ gain.T
        states = [move @ state for state in states]
        covariances = [move @ own @ move.T + noise for own in covariances]
        seen = np.array([0, 2]) if step % 2 else np.array([1])
        measured = random.uniform(0, 100, (len(seen), 4))
        ours.update(seen, measured)
        for row, box in zip(seen, measured, strict=True):
            innovation = pick @ covariances[row] @ pick.T + MEASUREMENT_NOISE * np.eye(4)
            gain = covariances[row] @ pick.T @ np.linalg.inv(innovation)
            states[row] = states[row] + gain @ (box - pick @ states[row])
            covariances[row] = (np.eye(8) - gain @ pick) @ covariances[row]
    np.testing.assert_allclose(ours.boxes_xyxy, [state[:4] for state in states], rtol=1e-9)
    np.testing.assert_allclose(ours.velocity, [state[4:] for state in states], rtol=1e-9, atol=1e-9)


def test_ids_last_through_crossing_hiding_and_order() -> None:
    tracker, random = Tracker(), np.random.default_rng(0)
    seen: dict[int, set[int]] = {0: set(), 1: set()}
    for frame in range(40):
        boxes = [(frame, 10, frame + 20, 40), (70 - frame, 60, 90 - frame, 90)]
        shown = [0, 1] if frame not in range(15, 22) else [0]  # the second one is hidden for a while
        order = random.permutation(shown)
        for own, track in zip(order, ids_of(tracker.update(found([boxes[i] for i in order]))), strict=True):
            if frame:
                seen[int(own)].add(track)
    assert seen == {0: {1}, 1: {2}} or seen == {0: {2}, 1: {1}}


def test_weak_detections_continue_a_track_and_begin_none() -> None:
    tracker = Tracker()
    box = (10, 10, 30, 30)
    assert [ids_of(tracker.update(found([box], score))) for score in (0.9, 0.9, 0.2, 0.2, 0.9)] == [
        [-1],
        [1],
        [1],
        [1],
        [1],
    ]
    weak = Tracker()
    assert all(ids_of(weak.update(found([box], 0.65))) == [-1] for _ in range(5))  # strong, but too weak to begin


def test_a_lost_track_ends_and_its_id_is_not_used_again() -> None:
    tracker, box = Tracker(TrackerConfig(lost_frames=3)), (10, 10, 30, 30)
    for _ in range(3):
        tracker.update(found([box]))
    for _ in range(4):
        assert ids_of(tracker.update(found([]))) == []
    assert [ids_of(tracker.update(found([box]))) for _ in range(2)] == [[-1], [2]]
    tracker.reset()
    assert [ids_of(tracker.update(found([box]))) for _ in range(2)] == [[-1], [1]]


def test_times_end_lost_tracks_and_move_boxes_further() -> None:
    def place(at: float) -> tuple[float, float, float, float]:
        return (40 * at, 10, 40 * at + 20, 40)

    tracker = Tracker()
    for number in range(20):
        tracked = tracker.update(found([place(number / 30)]), number / 30)
    assert ids_of(tracked) == [1]
    assert ids_of(tracker.update(found([place(1.4)]), 1.4)) == [1]  # 23 frames are missing
    assert ids_of(tracker.update(found([place(1.4)]), 1.4)) == [-1]  # the same moment again is no frame
    assert ids_of(tracker.update(found([place(3)]), 3.0)) == [-1]  # lost for more than a second


def test_by_class_keeps_a_track_in_its_class() -> None:
    for by_class, expected in ((False, [1]), (True, [-1])):
        tracker = Tracker(TrackerConfig(by_class=by_class))
        for _ in range(3):
            tracker.update(found([(0, 0, 20, 20)], class_ids=0))
        assert ids_of(tracker.update(found([(0, 0, 20, 20)], class_ids=1))) == expected


@pytest.mark.parametrize("wrong", [{"activation": 1.5}, {"min_iou": -0.1}, {"min_frames": 0}, {"fps": math.nan}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrackerConfig(**wrong)  # type: ignore[arg-type]


def test_ids_travel_with_the_detections() -> None:
    tracker = Tracker()
    for _ in range(2):
        tracked = tracker.update(found([(0, 0, 20, 20), (50, 50, 80, 80), (20, 70, 30, 90)], [0.9, 0.8, 0.3]))
    assert ids_of(tracked) == [1, 2, -1]
    assert ids_of(tracked[1:]) == [2, -1]
    assert Detections.from_json(tracked.to_json()) == tracked
    none = tracked[:0]
    assert Detections.from_json(none.to_json()) == none != found([])
    assert [row.get("track_id") for row in tracked.to_dict()["detections"]] == [1, 2, -1]
    with pytest.raises(ValueError, match="track_ids"):
        Detections(
            tracked.boxes_xyxy,
            tracked.scores,
            tracked.class_ids,
            ("cat", "dog"),
            (100, 100),
            track_ids=[1],  # type: ignore[arg-type]
        )
