"""Lines and zones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from singleshot import Detections
from singleshot.errors import ConfigError
from singleshot.images.guides import Guide
from singleshot.prediction.frames import Frame, Prediction
from singleshot.prediction.refinement import Refinement, Refiner
from singleshot.prediction.tracking.counting import Line, LineCounter, Zone, read_zones


def at(*feet: tuple[float, float], ids: list[int] | None = None) -> Detections:
    """Boxes that stand on points."""
    boxes = np.array([(x - 5, y - 20, x + 5, y) for x, y in feet], dtype=np.float32).reshape(-1, 4)
    track_ids = np.arange(1, len(feet) + 1) if ids is None else np.array(ids)
    count = len(feet)
    return Detections(boxes, np.ones(count), np.zeros(count, dtype=int), ("person",), (100, 100), track_ids=track_ids)


def test_a_line_counts_both_directions_and_only_the_segment() -> None:
    counter = LineCounter([Line.parse("door:20,50,60,50")])
    assert counter.update(at((40, 40), (80, 40), (40, 70))) == []
    crossings = counter.update(at((40, 60), (80, 60), (40, 40)))  # the second passes beside the segment
    assert [(own.line, own.direction, own.track_id, own.class_name) for own in crossings] == [
        ("door", "in", 1, "person"),
        ("door", "out", 3, "person"),
    ]
    assert counter.totals == {("door", "in"): 1, ("door", "out"): 1}


def test_standing_on_a_line_counts_once_and_a_hidden_track_where_it_returns() -> None:
    counter = LineCounter([Line((0, 50), (100, 50), "line")])
    for y in (40, 50, 50, 55, 54, 56):
        counter.update(at((50, y)))
    counter.update(at())
    assert counter.totals == {("line", "in"): 1, ("line", "out"): 0}
    counter.update(at((50, 30)))
    assert counter.totals == {("line", "in"): 1, ("line", "out"): 1}
    counter.update(at((50, 90), ids=[-1]))  # no track, no crossing
    assert sum(counter.totals.values()) == 2


@pytest.mark.parametrize("text", ["line", "line:1,2,3", "line:1,2,3,x", "line:5,5,5,5", "line:0,0,nan,1"])
def test_a_line_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="count"):
        Line.parse(text)


def test_untracked_detections_are_refused() -> None:
    with pytest.raises(ValueError, match="track_ids"):
        LineCounter([Line((0, 0), (1, 1))]).update(Detections.empty(("a",)))


def test_a_zone_agrees_with_opencv() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        polygon = random.uniform(0, 100, (random.integers(3, 8), 2)).astype(np.float32)
        points = random.uniform(0, 100, (200, 2)).astype(np.float32)
        inside = Zone(tuple(map(tuple, polygon.tolist()))).contains(at(*points.tolist()))
        theirs = [cv2.pointPolygonTest(polygon, (float(x), float(y)), False) > 0 for x, y in points]
        assert (inside == theirs).mean() > 0.99  # self-crossing polygons: both follow the even-odd rule


def test_zones_are_read_from_json(tmp_path: Path) -> None:
    square = [[0, 0], [10, 0], [10, 10], [0, 10]]
    file = tmp_path / "z.json"
    for content, names in (
        (square, ["zone"]),
        ([square, square], ["zone 1", "zone 2"]),
        ({"door": square}, ["door"]),
    ):
        file.write_text(json.dumps(content))
        assert [zone.name for zone in read_zones(file)] == names
    for wrong in ("", "{}", "[]", "5", "[[0, 0], [1, 1]]", '{"a": [[0, 0, 1]]}', "[[0, 0], [1, 0], [1, null]]"):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match=r"z\.json|zone"):
            read_zones(file)
    with pytest.raises(ConfigError, match=r"none\.json"):
        read_zones(tmp_path / "none.json")


def test_pictures_show_zones_and_what_was_counted() -> None:
    refiner = Refiner(Refinement.of(track=True, zone=None, count=["door:0,50,100,50"]))
    zone = Zone(((0, 0), (100, 0), (100, 100)), "yard")
    refiner.settings = replace(refiner.settings, zones=(zone,))
    frame = Frame(np.zeros((100, 100, 3), np.uint8), "clip.mp4/0", 0, 0.0)
    shown = [
        refiner.apply(Prediction(replace(frame, index=index, time_s=0.1 * index), replace(at((60, y)), track_ids=None)))
        for index, y in enumerate((40, 42, 46, 52, 56))
    ]
    yard, door = shown[-1].guides
    assert yard == Guide(zone.corners_xy, "yard", closed=True)
    assert door == Guide(((0, 50), (100, 50)), "door: 1 in, 0 out")
    assert shown[0].guides[1].text == "door: 0 in, 0 out"
