"""What happens to detections on their way to the sinks: tracked, counted, kept inside zones and above a size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from singleshot.errors import ConfigError
from singleshot.images.guides import Guide
from singleshot.prediction.frames import Prediction
from singleshot.prediction.tracking import Tracker, TrackerConfig
from singleshot.prediction.tracking.counting import Crossing, Line, LineCounter, Zone, read_zones

WEAK = 0.1
"""With tracking, detections from this score on keep a track alive."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """Settings of a `Refiner`.

    Attributes:
        track: whether objects are followed.
        tracker: how.
        score: least score of what is reported; tracked objects are reported below it, too.
        min_side: boxes with a shorter side, in pixels, are left out.
        zones: only what stands in one of them is reported; all of it where there are none.
        lines: tracks that cross them are counted.

    Raises:
        ConfigError: lines without tracking.
    """

    track: bool = False
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    score: float = 0.0
    min_side: float = 0.0
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()

    def __post_init__(self) -> None:
        if self.lines and not self.track:
            raise ConfigError("`count` counts tracks: follow the objects by `track=True`")
        if self.min_side < 0:
            raise ConfigError(f"`min_size={self.min_side:g}`: pixels, at least 0")

    @classmethod
    def of(
        cls,
        *,
        track: bool = False,
        score: float = 0.0,
        min_size: float = 0.0,
        zone: Path | None = None,
        count: Sequence[str] = (),
        fps: float | None = None,
    ) -> Refinement:
        """Settings as they are typed.

        Args:
            track: as the attribute.
            score: as the attribute; with tracking also the score from which detections are strong. A tenth more
                begins a track, as in ByteTrack. Tracks keep their class.
            min_size: shortest side of a box in pixels.
            zone: a file of polygons (`read_zones`).
            count: lines (`Line.parse`).
            fps: frames a second of the video, where known.

        Raises:
            ConfigError: a value that makes no sense.
        """
        lines = tuple(Line.parse(text) for text in count)
        zones = tuple(read_zones(zone)) if zone is not None else ()
        tracker = TrackerConfig(activation=min(1.0, score + 0.1), strong=score, fps=fps or 30.0, by_class=True)
        return cls(track, tracker, score, min_size, zones, lines)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is changed."""
        return not (self.track or self.min_side or self.zones)

    @property
    def detect_from(self) -> float:
        """The score that the detector is to report from."""
        return min(self.score, WEAK) if self.track else self.score


class Refiner:
    """Applies a `Refinement` to the results of a run, in their order; each video has a tracker and counters of its own.

    Args:
        settings: what is done.
    """

    def __init__(self, settings: Refinement) -> None:
        self.settings = settings
        self._trackers: dict[str, Tracker] = {}
        self._counters: dict[str, LineCounter] = {}

    def apply(self, prediction: Prediction) -> Prediction:
        """One image's detections as they are reported, and who crossed a line."""
        frame, found = prediction
        settings = self.settings
        crossings: list[Crossing] = []
        if settings.track:
            tracker = self._trackers.setdefault(frame.source, Tracker(settings.tracker))
            found = tracker.update(found, frame.time_s)
            assert found.track_ids is not None
            found = found[(found.track_ids > 0) | (found.scores >= settings.score)]
        if settings.min_side:
            sides = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
            found = found[(sides >= settings.min_side).all(axis=1)]
        if settings.zones:
            found = found[np.any([zone.contains(found) for zone in settings.zones], axis=0)]
        if settings.lines:
            counter = self._counters.setdefault(frame.source, LineCounter(settings.lines))
            crossings = counter.update(found)
        return replace(prediction, detections=found, crossings=crossings, guides=self._guides(frame.source))

    def _guides(self, source: str) -> list[Guide]:
        """Zones and lines, and how often a line was crossed in each direction so far."""
        guides = [Guide(zone.corners_xy, zone.name, closed=True) for zone in self.settings.zones]
        for line in self.settings.lines:
            totals = self._counters[source].totals
            text = f"{line.name}: {totals[line.name, 'in']} in, {totals[line.name, 'out']} out"
            guides.append(Guide((line.start_xy, line.end_xy), text))
        return guides

    def totals(self) -> dict[tuple[str, str, str], int]:
        """Crossings by source, line and direction."""
        return {(source, *key): number for source, own in self._counters.items() for key, number in own.totals.items()}
