"""Frames of a video file, by PyAV: upright, with their times, bounded, and with one line for what cannot be read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.errors import ConfigError, ImageError, MissingExtraError
from singleshot.images.read import MAX_PIXELS
from singleshot.prediction.addresses import without_password
from singleshot.prediction.frames import Failure, Frame

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
else:
    av = lazy_module("av")
    InputContainer = "av.container.InputContainer"

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv", ".3gp",
    ".ogv", ".mjpeg", ".mjpg", ".h264", ".h265", ".hevc", ".ivf", ".y4m",
)  # fmt: skip

_SEEK_FROM_S = 2.0
"""A later start is sought; before it, frames are decoded and dropped."""

_MOST_DAMAGED = 100
"""Damaged packets in a row after which the rest of a file is given up."""


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Which frames of a video are taken.

    Attributes:
        every: each ``every``-th frame.
        fps: so many frames a second instead, by their times; videos with fewer give all they have.
        start_s, end_s: part of the video, in seconds.
        max_frames: end after so many.

    Raises:
        ConfigError: a value that makes no sense, or both ``every`` and ``fps``.
    """

    every: int = 1
    fps: float | None = None
    start_s: float | None = None
    end_s: float | None = None
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"`every={self.every}`: 1 takes every frame, 2 every second one")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise ConfigError(f"`fps={self.fps:g}`: must be above 0")
        if self.fps is not None and self.every != 1:
            raise ConfigError("`every` and `fps` exclude each other: give one of them")
        for name in ("start_s", "end_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"`{name[:-2]}={value:g}`: seconds from the beginning, at least 0")
        if self.start_s is not None and self.end_s is not None and self.end_s <= self.start_s:
            raise ConfigError(f"`end={self.end_s:g}` must lie behind `start={self.start_s:g}`")
        if self.max_frames is not None and self.max_frames < 1:
            raise ConfigError(f"`max_frames={self.max_frames}`: at least 1")

    def picks(self) -> FramePicker:
        """A fresh picker for one video."""
        return FramePicker(self)


class FramePicker:
    """Says frame by frame whether it is taken."""

    def __init__(self, choice: FrameChoice) -> None:
        self._choice = choice
        self._next_s: float | None = None
        self._taken = self._offered = 0

    @property
    def done(self) -> bool:
        """Whether enough were taken."""
        return self._choice.max_frames is not None and self._taken >= self._choice.max_frames

    def ended(self, time_s: float) -> bool:
        """Whether a frame lies behind the part that is wanted."""
        return self._choice.end_s is not None and time_s >= self._choice.end_s

    def take(self, time_s: float) -> bool:
        """Whether the frame at this time is one of those that are wanted."""
        if time_s < (self._choice.start_s or 0) - 1e-9:
            return False
        number, self._offered = self._offered, self._offered + 1
        if self._choice.fps is None:
            taken = number % self._choice.every == 0
        else:
            step = 1 / self._choice.fps
            if self._next_s is None:
                self._next_s = time_s
            taken = time_s >= self._next_s - step / 1000
            if taken:  # the next on the grid that lies ahead: a gap is not made up for by a burst
                self._next_s += step * max(1, math.floor((time_s - self._next_s) / step + 1e-3) + 1)
        self._taken += taken
        return taken


class VideoInfo(NamedTuple):
    """What a file says of itself; any of it may be missing or wrong.

    Attributes:
        size_hw: of the frames as they are shown.
        fps: frames a second on average; ``None`` where unknown.
        frames: how many; ``None`` where unknown.
        duration_s: length; ``None`` where unknown.
        codec: of the pictures.
    """

    size_hw: tuple[int, int]
    fps: float | None
    frames: int | None
    duration_s: float | None
    codec: str


class Video:
    """A video file, or an address that PyAV opens. Iterating gives frames, and a `Failure` for what is damaged.

    Args:
        source: file or address.
        choice: which frames.
        max_pixels: larger pictures are refused before any is decoded.

    Raises:
        MissingExtraError: PyAV is not installed.
        ImageError: it is no video, or its pictures are too large; names the file and what to do.
    """

    def __init__(
        self, source: str | Path, choice: FrameChoice | None = None, *, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        self.source = str(source)
        self.name = without_password(self.source)
        self.choice = choice or FrameChoice()
        self.max_pixels = max_pixels
        with open_container(self.source, self.name) as container:
            self.info = describe(self.name, container, max_pixels)

    def __len__(self) -> int:
        """Frames that are expected, where the file says how many it has.

        Raises:
            TypeError: it does not say.
        """
        if self.expected is None:
            raise TypeError(f"{self.name}: does not say how many frames it has")
        return self.expected

    @property
    def expected(self) -> int | None:
        """Frames that are expected to be taken, for progress bars; ``None`` where unknown."""
        info, choice = self.info, self.choice
        if info.frames is None or info.fps is None:
            return choice.max_frames
        begin = min(info.frames, round((choice.start_s or 0) * info.fps))
        end = min(info.frames, math.ceil((choice.end_s or math.inf) * info.fps) if choice.end_s else info.frames)
        frames = max(0, end - begin)
        count = (
            math.ceil(frames / choice.every)
            if choice.fps is None
            else math.ceil(frames * min(1, choice.fps / info.fps))
        )
        return count if choice.max_frames is None else min(count, choice.max_frames)

    def __iter__(self) -> Iterator[Frame | Failure]:
        picker, last, seen = self.choice.picks(), -1, 0
        with open_container(self.source, self.name) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            origin = float((stream.start_time or 0) * (stream.time_base or 0))
            sought = self._seek(container, stream, origin)
            for decoded in _decode(container, stream, self.name):
                if isinstance(decoded, Failure):
                    yield decoded
                    continue
                seen += 1
                time_s = self._time(decoded, origin, last)
                last = last + 1 if not sought else round(time_s * (self.info.fps or 1))
                if picker.ended(time_s):
                    return
                if picker.take(time_s):
                    problem = self._too_large(decoded)
                    if problem:
                        yield Failure(Path(self.name), ImageError(problem))
                        return
                    yield Frame(upright(decoded), f"{self.name}/{last:06d}", last, time_s)
                if picker.done:
                    return
        yield from self._shortfall(seen, sought)

    def _seek(self, container: InputContainer, stream: av.VideoStream, origin: float) -> bool:
        start = self.choice.start_s or 0
        if start < _SEEK_FROM_S or stream.time_base is None or self.info.fps is None:
            return False
        container.seek(round((origin + start) / float(stream.time_base)), stream=stream)
        return True

    def _time(self, frame: av.VideoFrame, origin: float, last: int) -> float:
        """Seconds since the video began; frames without a time are evenly spaced."""
        at: float | None = frame.time  # the stubs promise more than files keep
        if at is not None:
            return at - origin
        return (last + 1) / (self.info.fps or 25.0)

    def _too_large(self, frame: av.VideoFrame) -> str | None:
        """A stream may change its size on the way."""
        return too_large(self.name, frame.width, frame.height, self.max_pixels)

    def _shortfall(self, seen: int, sought: bool) -> Iterator[Failure]:
        """A line where the file ends before it says it does."""
        if not seen:
            yield Failure(Path(self.name), ImageError(f"{self.name}: holds no frame that can be decoded"))
        elif not sought and self.info.frames and seen < 0.95 * self.info.frames - 2:
            message = f"{self.name}: ends after {seen:,} of the {self.info.frames:,} frames that it announces: cut off?"
            yield Failure(Path(self.name), ImageError(message))


@contextmanager
def open_container(source: str, name: str, **options: Any) -> Iterator[InputContainer]:
    """Open a file or an address by PyAV, and close it.

    Raises:
        MissingExtraError: PyAV is not installed.
        ImageError: it cannot be opened; the message begins with its name.
    """
    if find_spec("av") is None:
        raise MissingExtraError("av", "video", "reading videos")
    # No callback: PyAV's waits for the GIL in a thread that a closing decoder, which holds it, waits for.
    av.logging.set_level(None)
    try:
        container = av.open(source, **options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"{name}: cannot be opened as a video: {reason(error)}") from error
    try:
        yield container
    finally:
        container.close()


def describe(source: str, container: InputContainer, max_pixels: int | None = MAX_PIXELS) -> VideoInfo:
    """What an opened file says of its pictures.

    Raises:
        ImageError: it holds none, or they are too large.
    """
    if not container.streams.video:
        held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise ImageError(f"{source}: holds no pictures, only {held}")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None:
        raise ImageError(
            f"{source}: its pictures are in a format that this FFmpeg does not decode; convert it to H.264"
        )
    problem = too_large(source, context.width, context.height, max_pixels)
    if problem:
        raise ImageError(problem)
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate and 0 < rate < 10_000 else None
    duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
    if duration is None and container.duration:
        duration = container.duration / 1e6
    frames: int | None = stream.frames or None
    if frames is None and duration and fps:
        frames = round(duration * fps)
    if frames is not None and duration and fps and frames > 2 * duration * fps + 100:
        frames = round(duration * fps)  # a count that its own length contradicts
    return VideoInfo((context.height, context.width), fps, frames, duration, context.name)


def too_large(source: str, width: int, height: int, max_pixels: int | None) -> str | None:
    """Why pictures of this size are refused; ``None`` where they are not."""
    if max_pixels is None or width * height <= max_pixels:
        return None
    return (
        f"{source}: pictures of {width} x {height} are larger than {max_pixels:,} pixels; "
        f"if it is meant, allow more by `max_pixels={width * height}`"
    )


def upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A decoded frame as RGB, ``[H, W, 3]`` uint8, turned as its file says."""
    pixels: NDArray[np.uint8] = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _decode(container: InputContainer, stream: av.VideoStream, source: str) -> Iterator[av.VideoFrame | Failure]:
    """Decoded frames; a `Failure` for each run of damaged packets."""
    damaged = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            frames = [] if packet is None else packet.decode()
        except (av.FFmpegError, ValueError) as error:
            damaged += 1
            if damaged == 1 or damaged > _MOST_DAMAGED:
                message = f"{source}: damaged: {reason(error)}; what can be decoded is used"
                yield Failure(Path(source), ImageError(message))
            if damaged > _MOST_DAMAGED or isinstance(error, av.EOFError):
                return
            continue
        if packet is None:
            return
        if frames:
            damaged = 0
        yield from (frame for frame in frames if isinstance(frame, av.VideoFrame))


def reason(error: Exception) -> str:
    """FFmpeg's words without its numbers and file names."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
