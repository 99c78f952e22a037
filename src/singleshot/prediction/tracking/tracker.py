"""ByteTrack: detections of one frame after the other become tracks with lasting ids.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022. Strong detections are
matched to tracks by overlap with their predicted boxes, then weak ones to the tracks that are left: an object that is
half hidden keeps its id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import ConfigError
from singleshot.prediction.detections import Detections
from singleshot.prediction.tracking.assignment import IndexArray, assign, overlaps
from singleshot.prediction.tracking.kalman import CornerFilter

NO_TRACK = -1
"""The id of a detection that belongs to no confirmed track."""

_NOMINAL_SECONDS = 0.004
"""Frames whose times are off by less count as regular: clocks round to milliseconds, and cameras jitter."""

_AT_30_FPS = 30.0


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """When detections begin, continue and end a track. The defaults are ByteTrack's.

    Attributes:
        activation: least score of a detection that begins a track.
        strong: detections from this score on are matched first, the others to what is left.
        min_iou: least overlap with a track's predicted box.
        min_frames: frames in a row in which an object is seen before it gets an id.
        lost_frames: a track that is not seen is kept so long, counted in frames of a video of 30 frames a second.
        fps: frames a second of the video, by which `lost_frames` is scaled.
        by_class: a track keeps its class: detections of another class are not matched to it.

    Raises:
        ConfigError: a value outside its range.
    """

    activation: float = 0.7
    strong: float = 0.6
    min_iou: float = 0.1
    min_frames: int = 2
    lost_frames: int = 30
    fps: float = 30.0
    by_class: bool = False

    def __post_init__(self) -> None:
        for name in ("activation", "strong", "min_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"`{name}={getattr(self, name)}`: must lie in 0..1")
        if self.min_frames < 1 or self.lost_frames < 0:
            raise ConfigError(f"`min_frames={self.min_frames}`, `lost_frames={self.lost_frames}`: at least 1 and 0")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ConfigError(f"`fps={self.fps}`: frames a second must be above 0")

    @property
    def most_missed(self) -> int:
        """Frames of this video that a track is kept unseen."""
        return self.lost_frames and max(1, math.ceil(self.fps / _AT_30_FPS * self.lost_frames))


class Tracker:
    """Follows the objects of one video. Give it the detections of its frames in their order.

    for frame in video:
        found = tracker.update(model.predict(frame))
        print(found.track_ids)

    Detect with a low score (0.1): weak detections begin no track, but they keep one alive. Not for several videos, or
    threads, at once: each needs a tracker of its own.

    Args:
        config: as `TrackerConfig`; by default ByteTrack's own.
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self.reset()

    def reset(self) -> None:
        """Forget everything; ids begin at 1 again."""
        self._filter = CornerFilter()
        self._ids = np.zeros(0, dtype=np.int64)
        self._class_ids = np.zeros(0, dtype=np.int64)
        self._seen = np.zeros(0, dtype=np.int64)
        self._missed = np.zeros(0, dtype=np.int64)
        self._missed_s = np.zeros(0)
        self._time_s: float | None = None
        self._given = 0

    def update(self, found: Detections, time_s: float | None = None) -> Detections:
        """Take the detections of the next frame.

        Args:
            found: what was detected, weak detections included.
            time_s: when the frame was taken, in seconds; without, frames are evenly spaced. Gaps move boxes further
                and end lost tracks sooner. A time that does not advance leaves the tracks as they are.

        Returns:
            The same detections in the same order with `Detections.track_ids`: ids from 1 on, -1 where there is none.
        """
        ids = np.full(len(found), NO_TRACK, dtype=np.int64)
        elapsed = self._elapsed(time_s)
        if elapsed is not None and elapsed <= 0:
            return replace(found, track_ids=ids)
        self._predict(elapsed)
        boxes = found.boxes_xyxy.astype(np.float64)
        strong = found.scores >= self.config.strong
        free, new = np.ones(len(self._ids), dtype=bool), strong & (found.scores >= self.config.activation)
        for group in (strong, ~strong):
            tracks, rows = self._match(free.nonzero()[0], boxes, found.class_ids, group.nonzero()[0])
            if len(tracks):
                self._continue(tracks, boxes[rows], found.class_ids[rows])
                ids[rows] = self._ids[tracks]
                free[tracks], new[rows] = False, False
        if new.any():
            self._begin(boxes[new], found.class_ids[new])
        self._end(elapsed is not None)
        return replace(found, track_ids=ids)

    def _elapsed(self, time_s: float | None) -> float | None:
        """Seconds since the frame before; ``None`` where frames are evenly spaced."""
        before, self._time_s = self._time_s, time_s
        if time_s is None:
            return None
        if before is None:
            return 1 / self.config.fps
        if time_s <= before:
            self._time_s = before
        return time_s - before

    def _predict(self, elapsed: float | None) -> None:
        frames = 1.0
        if elapsed is not None and abs(elapsed - 1 / self.config.fps) > _NOMINAL_SECONDS:
            frames = elapsed * self.config.fps
        self._filter.predict(frames)
        self._seen[self._missed > 0] = 0
        self._missed += 1
        if elapsed is None:
            self._missed_s[:] = 0
        else:
            self._missed_s += elapsed
            self._keep(self._missed_s <= self.config.lost_frames / _AT_30_FPS)

    def _match(
        self, tracks: IndexArray, boxes: NDArray[np.float64], class_ids: IndexArray, rows: IndexArray
    ) -> tuple[IndexArray, IndexArray]:
        """Pairs of tracks and detections, tracks ascending."""
        if not len(tracks) or not len(rows):
            return tracks[:0], rows[:0]
        pairs = overlaps(self._filter.boxes_xyxy[tracks], boxes[rows])
        if self.config.by_class:
            pairs = pairs.where(self._class_ids[tracks[pairs.rows]] == class_ids[rows[pairs.columns]])
        first, second = assign(pairs, self.config.min_iou)
        return tracks[first], rows[second]

    def _continue(self, tracks: IndexArray, boxes: NDArray[np.float64], class_ids: IndexArray) -> None:
        self._filter.update(tracks, boxes)
        self._class_ids[tracks] = class_ids
        self._missed[tracks] = 0
        self._missed_s[tracks] = 0
        self._seen[tracks] += 1
        new = tracks[(self._ids[tracks] == NO_TRACK) & (self._seen[tracks] >= self.config.min_frames)]
        self._ids[new] = self._given + 1 + np.arange(len(new))
        self._given += len(new)

    def _begin(self, boxes: NDArray[np.float64], class_ids: IndexArray) -> None:
        self._filter.add(boxes)
        count = len(boxes)
        self._ids = np.concatenate((self._ids, np.full(count, NO_TRACK)))
        self._class_ids = np.concatenate((self._class_ids, class_ids))
        self._seen = np.concatenate((self._seen, np.ones(count, dtype=np.int64)))
        self._missed = np.concatenate((self._missed, np.zeros(count, dtype=np.int64)))
        self._missed_s = np.concatenate((self._missed_s, np.zeros(count)))

    def _end(self, timed: bool) -> None:
        """Drop tracks that were lost too long, and new ones that were not seen again."""
        alive = (self._ids != NO_TRACK) | (self._seen >= self.config.min_frames) | (self._missed == 0)
        if not timed:
            alive &= self._missed <= self.config.most_missed
        self._keep(alive)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        if kept.all():
            return
        self._filter.keep(kept)
        self._ids, self._class_ids, self._seen = self._ids[kept], self._class_ids[kept], self._seen[kept]
        self._missed, self._missed_s = self._missed[kept], self._missed_s[kept]
