"""Lines that tracked objects cross, and zones that detections lie in. Pixels of the frame; NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import read_text
from singleshot.core.json_text import parse_json
from singleshot.errors import ConfigError
from singleshot.prediction.detections import Detections
from singleshot.prediction.tracking.tracker import NO_TRACK

FloatArray = NDArray[np.float64]

MOST_REMEMBERED = 10_000
"""Tracks whose last place is known; a camera runs for months."""


class Crossing(NamedTuple):
    """A tracked object that went over a line.

    Attributes:
        line: the line's name.
        direction: ``in`` from the left of the line to its right, looking from its start to its end; ``out`` back.
        track_id, class_id, class_name: the object.
    """

    line: str
    direction: str
    track_id: int
    class_id: int
    class_name: str


@dataclass(frozen=True, slots=True)
class Line:
    """A segment that is watched.

    Attributes:
        start_xy, end_xy: its ends in pixels.
        name: what its crossings are filed under.
    """

    start_xy: tuple[float, float]
    end_xy: tuple[float, float]
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Line:
        """Read ``line:x1,y1,x2,y2`` or ``NAME:x1,y1,x2,y2``.

        Raises:
            ConfigError: it is written otherwise, or has no length.
        """
        name, _, numbers = text.rpartition(":")
        try:
            x1, y1, x2, y2 = (float(number) for number in numbers.split(","))
        except ValueError:
            raise ConfigError(
                f"`count='{text}'`: write NAME:x1,y1,x2,y2 in pixels, such as line:0,240,640,240"
            ) from None
        if not all(map(math.isfinite, (x1, y1, x2, y2))) or (x1, y1) == (x2, y2):
            raise ConfigError(f"`count='{text}'`: the line has no length")
        return cls((x1, y1), (x2, y2), name or "line")


class LineCounter:
    """Counts the tracks that cross lines, by the middle of their boxes' lower edge: where an object stands.

    Args:
        lines: what is watched.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = tuple(lines)
        self.totals = {(line.name, direction): 0 for line in lines for direction in ("in", "out")}
        self._last: dict[int, FloatArray] = {}

    def update(self, found: Detections) -> list[Crossing]:
        """Take the tracked detections of the next frame; returns who crossed since the one before.

        A track that is hidden in between is judged by where it comes back.

        Raises:
            ValueError: the detections are not tracked.
        """
        if found.track_ids is None:
            raise ValueError("detections without track_ids cross no line: track them first")
        places = dict(
            zip(found.track_ids.tolist(), zip(range(len(found)), feet(found.boxes_xyxy), strict=True), strict=True)
        )
        places.pop(NO_TRACK, None)
        back = [track_id for track_id in places if track_id in self._last]
        crossings: list[Crossing] = []
        if back:
            before = np.array([self._last[track_id] for track_id in back])
            after = np.array([places[track_id][1] for track_id in back])
            for line in self.lines:
                sides = _crossed(line, before, after)
                for index in np.flatnonzero(sides):
                    direction, track_id = "in" if sides[index] > 0 else "out", back[index]
                    class_id = int(found.class_ids[places[track_id][0]])
                    crossings.append(Crossing(line.name, direction, track_id, class_id, found.class_names[class_id]))
                    self.totals[line.name, direction] += 1
        for track_id, (_, point) in places.items():
            self._last.pop(track_id, None)  # the latest come last
            self._last[track_id] = point
        for track_id in list(self._last)[: max(0, len(self._last) - MOST_REMEMBERED)]:
            del self._last[track_id]
        return crossings


def feet(boxes_xyxy: NDArray[np.floating]) -> FloatArray:
    """The middle of each box's lower edge, ``[N, 2]``."""
    return np.stack(((boxes_xyxy[:, 0] + boxes_xyxy[:, 2]) / 2, boxes_xyxy[:, 3]), axis=1).astype(np.float64)


def _crossed(line: Line, before: FloatArray, after: FloatArray) -> NDArray[np.int64]:
    """1 where a path goes over the segment from left to right, -1 where back, 0 where not, ``[N]``."""
    start, end = np.array(line.start_xy), np.array(line.end_xy)
    old, new = _side(start, end, before), _side(start, end, after)
    move = after - before
    # The line's ends lie on different sides of the path, too: the segment itself is crossed, not its extension.
    first, second = (
        move[:, 0] * (point[1] - before[:, 1]) - move[:, 1] * (point[0] - before[:, 0]) for point in (start, end)
    )
    inside = first * second <= 0
    return np.where(inside & (old <= 0) & (new > 0), 1, np.where(inside & (old > 0) & (new <= 0), -1, 0))


def _side(start: FloatArray, end: FloatArray, points: FloatArray) -> FloatArray:
    """Above 0 to the right of the line (y points down)."""
    along, to = end - start, points - start
    return np.asarray(along[0] * to[:, 1] - along[1] * to[:, 0])


@dataclass(frozen=True, slots=True)
class Zone:
    """A polygon; a detection is inside if the middle of its lower edge is.

    Attributes:
        corners_xy: in pixels, at least three.
        name: of the zone.
    """

    corners_xy: tuple[tuple[float, float], ...]
    name: str = "zone"

    def __post_init__(self) -> None:
        corners = np.array(self.corners_xy, dtype=np.float64)
        if corners.ndim != 2 or corners.shape[1:] != (2,) or len(corners) < 3 or not np.isfinite(corners).all():
            raise ConfigError(f"the zone '{self.name}' must have at least three corners [x, y]")

    def contains(self, found: Detections) -> NDArray[np.bool_]:
        """Which detections are inside, ``[N]``: by the even-odd rule."""
        x, y = feet(found.boxes_xyxy).T[..., None]
        corners = np.array(self.corners_xy, dtype=np.float64)
        (x1, y1), (x2, y2) = corners.T, np.roll(corners, -1, axis=0).T
        spans = (y1 > y) != (y2 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            left = x < (x2 - x1) * (y - y1) / (y2 - y1) + x1
        return np.asarray((spans & left).sum(axis=1) % 2 == 1)


def read_zones(path: Path) -> list[Zone]:
    """Read polygons from JSON: ``[[x, y], ...]``, a list of these, or ``{"name": [[x, y], ...], ...}``.

    Raises:
        ConfigError: the file is missing, no JSON, or holds something else.
    """
    wanted = 'one polygon [[x, y], [x, y], [x, y]], a list of polygons, or {"name": polygon}'
    try:
        content = parse_json(read_text(path).text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}); it should hold {wanted}") from error
    try:
        if isinstance(content, dict):
            named = [(str(name), polygon) for name, polygon in content.items()]
        elif isinstance(content[0][0], list):
            named = [(f"zone {number}", polygon) for number, polygon in enumerate(content, 1)]
        else:
            named = [("zone", content)]
        zones = [Zone(tuple((float(x), float(y)) for x, y in polygon), name) for name, polygon in named]
    except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise ConfigError(f"{path}: holds no polygon of pixels; it should hold {wanted}") from error
    if not zones:
        raise ConfigError(f"{path}: holds no polygon; it should hold {wanted}")
    return zones
