"""Small videos made in code: every frame says its own number in its colours."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

CLOCK = Fraction(1, 90_000)


def picture(number: int, size_hw: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """Grey of the frame's number, the upper left corner white."""
    image = np.full((*size_hw, 3), 20 + 5 * (number % 40), dtype=np.uint8)
    image[: size_hw[0] // 4, : size_hw[1] // 4] = 255
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """The number that a picture says, read from its middle."""
    height, width = image.shape[:2]
    return round((float(image[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4].mean()) - 20) / 5)


def make_video(
    path: Path,
    frames: int = 20,
    fps: int = 10,
    size_hw: tuple[int, int] = (48, 64),
    *,
    codec: str = "libx264",
    times_s: Sequence[float] | None = None,
    sound: bool = False,
    turned: int = 0,
) -> Path:
    """Write a video; frames at ``times_s`` where given, with a tone, or with the note that it is to be turned."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = (
            size_hw[1],
            size_hw[0],
            "yuvj420p" if codec == "mjpeg" else "yuv420p",
        )
        if codec.startswith("libx264"):
            stream.options = {"crf": "10", "g": "5"}
        stream.codec_context.time_base = CLOCK if times_s is not None else Fraction(1, fps)
        tone = output.add_stream("aac", rate=16_000) if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, size_hw), format="rgb24")
            at = number / fps if times_s is None else times_s[number]
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(at / frame.time_base)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if tone is not None:
            seconds = frames / fps
            wave = (3000 * np.sin(np.arange(round(16_000 * seconds)) / 6)).astype(np.int16)
            for begin in range(0, len(wave) - 1024, 1024):
                chunk = av.AudioFrame.from_ndarray(wave[None, begin : begin + 1024], format="s16", layout="mono")
                chunk.sample_rate, chunk.pts, chunk.time_base = 16_000, begin, Fraction(1, 16_000)
                output.mux(tone.encode(chunk))
            output.mux(tone.encode(None))
    if turned:
        turn(path, turned)
    return path


def turn(path: Path, degrees: int) -> None:
    """Write a rotation into the track header of an mp4 file, as telephones do: so many degrees clockwise."""
    data = bytearray(path.read_bytes())
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    at = data.index(b"tkhd") + 4 + 40  # the matrix stands behind the fixed fields of version 0
    one = 0x10000
    data[at : at + 36] = struct.pack(">9i", cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 0x40000000)
    path.write_bytes(data)


def make_sound(path: Path) -> Path:
    """A file without pictures."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16_000)
        chunk = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.int16), format="s16", layout="mono")
        chunk.sample_rate, chunk.pts = 16_000, 0
        output.mux(stream.encode(chunk))
        output.mux(stream.encode(None))
    return path
