"""Sources that move: videos, cameras and streams, opened together and read one after another.

What is live is read side by side: each look takes the newest frame of every stream that has one.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from singleshot.errors import ConfigError, ImageError
from singleshot.images.read import MAX_PIXELS
from singleshot.prediction.addresses import without_password
from singleshot.prediction.fetch import fetch_image, is_address, stdin_image
from singleshot.prediction.frames import Failure, Frame, Prediction
from singleshot.prediction.inputs import images_of
from singleshot.prediction.live import LiveConfig, LiveSource, is_live_address
from singleshot.prediction.pipeline import Predictor
from singleshot.prediction.refinement import Refinement, Refiner
from singleshot.prediction.video import VIDEO_SUFFIXES, FrameChoice, Video

Tell = Callable[[str], object]

STDIN = "-"
"""The source that is one image from standard input."""


def is_moving(source: str) -> bool:
    """Whether a source is no file or folder of images, by how it is written: a video, a camera, an address, ``-``."""
    if os.path.isdir(source):  # one of photos may be called 2012
        return False
    if source == STDIN or is_live_address(source) or is_address(source):
        return True
    return Path(source).suffix.lower() in VIDEO_SUFFIXES


def is_named(sources: Any) -> bool:
    """Whether sources are names of videos, cameras or streams, all of them."""
    if not isinstance(sources, (list, tuple)) or not sources:
        return False
    return all(isinstance(own, (str, os.PathLike, int)) and is_moving(str(own)) for own in sources)


@dataclass
class Moving:
    """Videos, streams and fetched images of one run: a context manager that gives frames, and `Failure` for damage.

    Args:
        sources: as they were typed.
        choice: which frames of each.
        live: how live ones are followed.
        tell: is told, a line each, what happens to streams.
        max_pixels: larger pictures are refused.

    Raises:
        ImageError, MissingExtraError: on entering: one of them cannot be opened. Of several videos the others are
            read, and it is a `Failure`.
    """

    sources: Sequence[str]
    choice: FrameChoice = field(default_factory=FrameChoice)
    live: LiveConfig = field(default_factory=LiveConfig)
    tell: Tell = warnings.warn
    max_pixels: int | None = MAX_PIXELS

    def __post_init__(self) -> None:
        self._videos: list[Video | Frame | Failure] = []
        self._streams: list[LiveSource] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for source in self.sources:
            try:
                self._open(source)
            except ImageError as error:
                if len(self.sources) == 1:
                    raise
                self._videos.append(Failure(Path(without_password(source)), error))
        if self._streams and any(isinstance(video, Video) for video in self._videos):
            self._stack.close()
            raise ConfigError("videos and live streams do not go together: name them in runs of their own")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self, source: str) -> None:
        if source == STDIN:
            self._videos.append(stdin_image(sys.stdin.buffer, max_pixels=self.max_pixels))
            return
        if is_address(source) and (frame := fetch_image(source, max_pixels=self.max_pixels)) is not None:
            self._videos.append(frame)
            return
        if not is_live_address(source):
            video = Video(source, self.choice, max_pixels=self.max_pixels)
            if not is_address(source) or video.info.duration_s:
                self._videos.append(video)
                return
        stream = LiveSource(source, self.live, self.choice, tell=self.tell, max_pixels=self.max_pixels)
        self._streams.append(self._stack.enter_context(stream))

    @property
    def is_still(self) -> bool:
        """Whether all that was opened are single images."""
        return not self._streams and not any(isinstance(own, Video) for own in self._videos)

    @property
    def is_live(self) -> bool:
        """Whether frames come by themselves."""
        return bool(self._streams)

    @property
    def together(self) -> int:
        """Streams that are looked at side by side."""
        return max(1, len(self._streams))

    @property
    def expected(self) -> int | None:
        """Frames that will come, for progress bars; ``None`` where unknown."""
        counts = [own.expected if isinstance(own, Video) else int(isinstance(own, Frame)) for own in self._videos]
        return None if self._streams or None in counts else sum(count or 0 for count in counts)

    @property
    def fps(self) -> float | None:
        """Frames a second of the first video."""
        return next((video.info.fps for video in self._videos if isinstance(video, Video)), None)

    def __iter__(self) -> Iterator[Frame | Failure]:
        for video in self._videos:
            if isinstance(video, Video):
                yield from video
            else:
                yield video
        if len(self._streams) == 1:
            yield from self._streams[0]
        elif self._streams:
            yield from side_by_side(self._streams)


def side_by_side(streams: Sequence[LiveSource]) -> Iterator[Frame]:
    """Frames of several live sources as they come, in turns; ends with the last of them."""
    open_streams = list(streams)
    while open_streams:
        got = False
        for stream in list(open_streams):
            frame = stream.take()
            if frame is not None:
                got = True
                yield frame
            elif stream.is_over:
                open_streams.remove(stream)
        if not got and open_streams:
            open_streams[0].wait(0.005)


def start_of(text: str | None, name: str) -> float | None:
    """Seconds from ``90``, ``1:30`` or ``0:01:30.5``; ``None`` stays so.

    Raises:
        ConfigError: it is none of these.
    """
    if text is None:
        return None
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or any(part < 0 for part in parts):
        raise ConfigError(f"`{name}='{text}'`: seconds, MINUTES:SECONDS or HOURS:MINUTES:SECONDS")
    return float(sum(part * 60**power for power, part in enumerate(reversed(parts))))


def stream_results(
    make: Callable[[float], Predictor],
    source: Any,
    choice: FrameChoice,
    live: LiveConfig,
    *,
    score: float,
    track: bool,
    batch_size: int,
    tell: Tell,
) -> Iterator[Prediction]:
    """What `Detector.stream` gives.

    Args:
        make: makes the stages, for a least score.
        source: as there.
        choice, live: which frames, and how streams are followed.
        score, track: what is reported.
        batch_size: frames of a file that the network sees at once.
        tell: is told what goes wrong.
    """
    sources = [source] if isinstance(source, (str, os.PathLike, int)) else source
    names = [str(own) for own in sources] if is_named(sources) else []
    with Moving(names, choice, live, tell) if names else nullcontext() as moving:
        fps = choice.fps or (moving.fps if moving else None)
        refinement = Refinement.of(track=track, score=score, fps=fps)
        predictor, refiner = make(refinement.detect_from), Refiner(refinement)
        is_live = moving is not None and moving.is_live
        at_once = moving.together if moving is not None and is_live else batch_size
        items = images_of(source)[0] if moving is None else moving
        for result in predictor.stream(items, at_once, live=is_live):
            if isinstance(result, Failure):
                tell(str(result.error))
            else:
                yield refiner.apply(result)
