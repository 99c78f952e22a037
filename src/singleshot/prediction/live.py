"""Cameras and network streams: read in a thread of their own, so that no backlog grows, and opened again if they end.

Decoders must see every packet, but nobody must look at every frame: the thread decodes what comes, and either keeps
only the newest frame (``latest``), or queues up to a bound (``all``) and then lets the stream wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from singleshot.core.lazy import lazy_module
from singleshot.errors import ConfigError, ImageError, MissingExtraError
from singleshot.images.read import MAX_PIXELS
from singleshot.prediction.addresses import without_password
from singleshot.prediction.frames import Frame
from singleshot.prediction.video import FrameChoice, describe, open_container, reason, too_large, upright

if TYPE_CHECKING:
    import av
else:
    av = lazy_module("av")

Policy = Literal["latest", "all"]
Tell = Callable[[str], object]

STREAMING = ("rtsp", "rtsps", "rtmp", "rtmps", "udp", "srt", "rtp", "tcp")
"""Schemes of addresses that are always live; an http address is live if it has no length."""


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """How a live source is followed.

    Attributes:
        policy: ``latest`` gives the newest frame whenever one is asked for, and drops what came in between; ``all``
            gives every frame and lets the source wait when ``queue`` of them are waiting.
        queue: frames that wait at most with ``all``.
        stalled_s: silence after which a line says that nothing comes, and after which the stream is opened again.
        first_wait_s, longest_wait_s: pauses between attempts to open it again; each is twice the one before.
        give_up_s: end after so long without a frame; ``None`` tries for ever.

    Raises:
        ConfigError: a value that makes no sense.
    """

    policy: Policy = "latest"
    queue: int = 64
    stalled_s: float = 5.0
    first_wait_s: float = 0.1
    longest_wait_s: float = 1.0
    give_up_s: float | None = None

    def __post_init__(self) -> None:
        if self.policy not in ("latest", "all"):
            raise ConfigError(f"`live='{self.policy}'`: choose latest or all")
        if self.queue < 1 or self.stalled_s <= 0 or not 0 < self.first_wait_s <= self.longest_wait_s:
            raise ConfigError("a live source needs a queue of at least 1, and times above 0")


def is_live_address(source: str) -> bool:
    """Whether an address is a stream by its scheme, or a camera: ``rtsp://...``, ``0``, ``/dev/video0``."""
    scheme = source.partition("://")[0] if "://" in source else ""
    return source.isdecimal() or source.startswith("/dev/video") or scheme.lower() in STREAMING


class LiveSource:
    """Frames of a camera or a stream, as they come. A context manager, and an iterator that ends when it is closed.

    with LiveSource("rtsp://camera/1") as frames:
        for frame in frames:
            ...

    Args:
        source: an address, ``0`` for the first camera, ``/dev/video0``.
        config: how it is followed.
        choice: which frames; times count from the first frame.
        tell: is told, a line each, that the stream stalls, ends and is back.
        max_pixels: larger pictures are refused.

    Raises:
        ImageError: it cannot be opened at the beginning; names it.
    """

    def __init__(
        self,
        source: str,
        config: LiveConfig | None = None,
        choice: FrameChoice | None = None,
        *,
        tell: Tell = print,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        self.source = source
        self.name = without_password(_device(source))
        self.config = config or LiveConfig()
        self.dropped = self.reconnections = 0
        self._choice, self._tell, self._max_pixels = choice or FrameChoice(), tell, max_pixels
        self._changed = threading.Condition()
        self._waiting: deque[tuple[av.VideoFrame, int, float]] = deque()
        self._error: Exception | None = None
        self._opened = self._is_silent = False
        self._end = threading.Event()
        self._heard = time.monotonic()
        self._count = 0
        self._thread = threading.Thread(target=self._run, name=f"singleshot-live {self.name}", daemon=True)

    def __enter__(self) -> Self:
        self._heard = time.monotonic()
        self._thread.start()
        with self._changed:
            while not (self._opened or self._error):
                self._changed.wait()
            if self._error:
                raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream; safe from any thread."""
        with self._changed:
            self._end.set()
            self._waiting.clear()
            self._changed.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether no frame will come any more."""
        with self._changed:
            return self._end.is_set() and not self._waiting

    def wait(self, seconds: float) -> None:
        """Wait for a frame, or for the end."""
        with self._changed:
            if not self._waiting and not self._end.is_set():
                self._changed.wait(seconds)

    def take(self) -> Frame | None:
        """The next frame, if there is one now. Tells that the stream is silent, and gives up, where it is time to."""
        with self._changed:
            taken = self._waiting.popleft() if self._waiting else None
            self._changed.notify_all()
            silence = time.monotonic() - self._heard
        if taken is None and self._error is not None:
            raise self._error
        if taken is not None:
            self._is_silent = False
            frame, index, time_s = taken
            return Frame(upright(frame), f"{self.name}/{index:06d}", index, time_s)
        if silence > self.config.stalled_s and not self._is_silent and not self._end.is_set():
            self._is_silent = True
            self._tell(f"{self.name}: no picture for {silence:.0f} s; waiting")
        if self.config.give_up_s is not None and silence > self.config.give_up_s and not self._end.is_set():
            self._tell(f"{self.name}: no picture for {silence:.0f} s; given up")
            self.close()
        return None

    def __iter__(self) -> Iterator[Frame]:
        while not self.is_over:
            self.wait(self.config.stalled_s / 4)
            frame = self.take()
            if frame is not None:
                yield frame
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        """What goes wrong in this thread is raised where frames are read, which would wait for ever."""
        try:
            self._follow()
        except Exception as error:
            self._fail(error)

    def _follow(self) -> None:
        """Open, read to the end, and open again."""
        wait_s, picker, begin, is_lost = self.config.first_wait_s, self._choice.picks(), 0.0, False
        while not self._end.is_set():
            try:
                for frame in self._frames():
                    now = time.monotonic()
                    begin = begin or now
                    if is_lost:
                        self._tell(f"{self.name}: back")
                    wait_s, is_lost = self.config.first_wait_s, False
                    if picker.ended(now - begin) or picker.done:
                        self._finish()
                        return
                    if picker.take(now - begin):
                        self._put(frame, now - begin)
                    if self._end.is_set():
                        return
                why = "the stream ended"
            except ImageError as error:
                if not self._opened:
                    self._fail(error)
                    return
                why = str(error).removeprefix(f"{self.name}: ")
            if self._end.is_set():
                return
            if not is_lost:
                self._tell(f"{self.name}: {why}; opening it again")
            is_lost = True
            self._pause(wait_s)
            wait_s = min(2 * wait_s, self.config.longest_wait_s)
            self.reconnections += 1

    def _frames(self) -> Iterator[av.VideoFrame]:
        """Decoded frames of one connection.

        Raises:
            ImageError: it cannot be opened, or breaks.
        """
        source, options = _opening(self.source, self.config.stalled_s, again=self._opened)
        try:
            with open_container(source, self.name, **options) as container:
                describe(self.name, container, self._max_pixels)
                stream = container.streams.video[0]
                stream.thread_type = "SLICE"  # threads over frames would hold some back
                self._say_opened()
                for packet in container.demux(stream):
                    try:
                        frames = packet.decode()
                    except av.error.InvalidDataError:
                        continue  # until the next whole picture
                    for frame in frames:
                        self._heard = time.monotonic()
                        if isinstance(frame, av.VideoFrame):
                            self._check_size(frame)
                            yield frame
        except MissingExtraError:  # the next line would import what is missing
            raise
        except (av.FFmpegError, OSError) as error:
            raise ImageError(f"{self.name}: {reason(error)}") from error

    def _check_size(self, frame: av.VideoFrame) -> None:
        problem = too_large(self.name, frame.width, frame.height, self._max_pixels)
        if problem:
            raise ImageError(problem)

    def _put(self, frame: av.VideoFrame, time_s: float) -> None:
        with self._changed:
            index, self._count = self._count, self._count + 1
            if self.config.policy == "latest":
                self.dropped += len(self._waiting)
                self._waiting.clear()
            while len(self._waiting) >= self.config.queue and not self._end.is_set():
                self._changed.wait()
            self._waiting.append((frame, index, time_s))
            self._changed.notify_all()

    def _say_opened(self) -> None:
        with self._changed:
            if not self._opened:  # later only pictures are signs of life: a server may accept, and send none
                self._heard = time.monotonic()
            self._opened = True
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._error = error
            self._end.set()
            self._changed.notify_all()

    def _finish(self) -> None:
        """No further frames; those that wait are still given."""
        with self._changed:
            self._end.set()
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        with self._changed:
            if not self._end.is_set():
                self._changed.wait_for(self._end.is_set, seconds)


def _device(source: str) -> str:
    """``0`` is the first camera."""
    return f"/dev/video{int(source)}" if source.isdecimal() else source


def _opening(source: str, timeout_s: float, *, again: bool) -> tuple[str, dict[str, object]]:
    """What PyAV opens, and how: no delay in the decoder, an end to waiting; what is known is not probed ``again``."""
    source = _device(source)
    options = {"flags": "low_delay"}  # and no "nobuffer": it drops what was probed, and with that the first key frame
    if source.startswith("/dev/video"):
        return source, {"format": "v4l2", "options": {}}
    if source.lower().startswith("rtsp"):
        options |= {"rtsp_transport": "tcp"}
    if again:
        options |= {"fpsprobesize": "0", "analyzeduration": "100000"}  # microseconds: counting frames takes a second
    return source, {"options": options, "timeout": (max(timeout_s, 5.0), timeout_s)}
