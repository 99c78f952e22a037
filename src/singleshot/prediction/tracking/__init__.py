"""Objects followed through a video: ByteTrack's association over `Detections`, and lines and zones that count them."""

from singleshot.prediction.tracking.tracker import Tracker, TrackerConfig

__all__ = ["Tracker", "TrackerConfig"]
