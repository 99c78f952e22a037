"""Videos with boxes: H.264 in mp4, each frame at its own time, the sound of the original beside it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import put_in_place
from singleshot.core.lazy import lazy_module
from singleshot.errors import MissingExtraError
from singleshot.prediction.frames import Failure, Prediction
from singleshot.prediction.output_names import UniqueNames, safe_name
from singleshot.prediction.sinks import SINKS, Run
from singleshot.prediction.sinks.base import drawn

if TYPE_CHECKING:
    import av
else:
    av = lazy_module("av")

_CLOCK = Fraction(1, 90_000)
"""Unit of the times in the file: MPEG's own clock."""

_MOST_OPEN = 16
"""Videos that are written side by side: streams come in turns."""

_RATE = 25
"""Frames a second that still images are given."""

_SOUND_OF_MP4 = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
"""Sound that an mp4 file takes as it is."""


class VideoSink:
    """A video for each video that is detected in, and one of all still images; written beside its name, then moved."""

    top = "videos"

    def __init__(self, run: Run) -> None:
        self._run = run
        self._folder = run.folder.path / self.top
        self._names = UniqueNames()
        self._open: dict[str, tuple[VideoWriter, Path]] = {}

    def __enter__(self) -> Self:
        if find_spec("av") is None:
            raise MissingExtraError("av", "video", "`save='video'`")
        self._folder.mkdir(exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for source in list(self._open):
            self._finish(source)

    def write(self, prediction: Prediction) -> None:
        """Draw one frame and add it to the video of its source."""
        frame, source = prediction.frame, prediction.frame.source
        picture = drawn(prediction, self._run)
        opened = self._open.pop(source, None) or self._begin(source, picture.shape[:2])
        self._open[source] = opened  # the latest come last
        opened[0].write(picture, frame.time_s)

    def fail(self, failure: Failure) -> None:
        """A frame that cannot be read is missing."""

    def _begin(self, source: str, size_hw: tuple[int, ...]) -> tuple[VideoWriter, Path]:
        if len(self._open) == _MOST_OPEN:
            self._finish(next(iter(self._open)))
        name = self._names.take(Path(f"{safe_name(Path(source).stem or 'images')}.mp4"))
        target = self._run.folder.claim(Path(self.top) / name)
        draft = target.with_name(f".{target.name}.part.mp4")
        draft.unlink(missing_ok=True)
        sound_of = source if os.path.isfile(source) else ""  # a stream would be opened twice, and waited for
        return VideoWriter(draft, (size_hw[0], size_hw[1]), sound_of), target

    def _finish(self, source: str) -> None:
        writer, target = self._open.pop(source)
        try:
            writer.close()
            put_in_place(writer.path, target)
        finally:
            with suppress(OSError):
                writer.path.unlink(missing_ok=True)


class VideoWriter:
    """Encodes pictures with times into a file.

    Args:
        path: an ``.mp4`` file, which is replaced.
        size_hw: of the first picture; others are fitted to it.
        sound_of: a video whose sound is copied where mp4 can hold it; empty for none.
    """

    def __init__(self, path: Path, size_hw: tuple[int, int], sound_of: str = "") -> None:
        self.path = path
        self._size_hw = size_hw
        self._last = -1
        self._frames = 0
        self._output = av.open(str(path), "w", options={"movflags": "+faststart"})
        self._stream: Any = self._output.add_stream("libx264", rate=_RATE, options={"crf": "20", "preset": "veryfast"})
        self._stream.width, self._stream.height = size_hw[1] + size_hw[1] % 2, size_hw[0] + size_hw[0] % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _CLOCK
        self._sound = _Sound(sound_of, self._output) if sound_of else None
        self._begin_s: float | None = None

    def write(self, picture: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Add a picture, RGB ``[H, W, 3]`` uint8.

        Args:
            picture: what is shown.
            time_s: when, in seconds; without, pictures follow each other evenly.
        """
        time_s = self._frames / _RATE if time_s is None else time_s
        self._begin_s = time_s if self._begin_s is None else self._begin_s
        frame = av.VideoFrame.from_ndarray(self._fitted(picture), format="rgb24")
        frame.time_base = _CLOCK
        frame.pts = self._last = max(round((time_s - self._begin_s) / _CLOCK), self._last + 1)
        self._frames += 1
        self._mux(self._stream.encode(frame))
        if self._sound:
            self._mux(self._sound.until(time_s, self._begin_s))

    def close(self) -> None:
        """Write what is still held back, and the end of the file."""
        try:
            self._mux(self._stream.encode(None))
        finally:
            if self._sound:
                self._sound.close()
            self._output.close()

    def _mux(self, packets: Any) -> None:
        try:
            for packet in packets:
                self._output.mux(packet)
        except OSError as error:
            raise OSError(error.errno or errno.EIO, error.strerror, str(self.path)) from error

    def _fitted(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture in the size of the video: H.264 wants even sides, and others are scaled."""
        import cv2

        if picture.shape[:2] != self._size_hw:
            picture = np.asarray(cv2.resize(picture, self._size_hw[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
        odd = (self._stream.height - picture.shape[0], self._stream.width - picture.shape[1])
        return np.pad(picture, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge") if any(odd) else picture


class _Sound:
    """Packets of sound, copied as they are."""

    def __init__(self, source: str, output: Any) -> None:
        self._packets: Iterator[Any] = iter(())
        self._input: Any = None
        self._next: Any = None
        with suppress(av.FFmpegError, OSError, ValueError):
            self._input = av.open(source)
            track = next(iter(self._input.streams.audio), None)
            if track is not None and track.codec_context.name in _SOUND_OF_MP4:
                self._stream = output.add_stream_from_template(track)
                self._packets = self._input.demux(track)

    def until(self, time_s: float, begin_s: float) -> Iterator[Any]:
        """Packets up to a time of the original, moved to the beginning of ours."""
        while True:
            packet, self._next = self._next or self._read(), None
            if packet is None:
                return
            at = float(packet.pts * packet.time_base)
            if at > time_s:
                self._next = packet
                return
            if at >= begin_s:
                shift = round(begin_s / packet.time_base)
                packet.pts -= shift
                packet.dts = packet.pts if packet.dts is None else packet.dts - shift
                packet.stream = self._stream
                yield packet

    def _read(self) -> Any:
        with suppress(av.FFmpegError, OSError, ValueError):
            return next((packet for packet in self._packets if packet.pts is not None), None)
        return None

    def close(self) -> None:
        if self._input is not None:
            self._input.close()


SINKS.register("video")(VideoSink)
