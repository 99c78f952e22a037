"""Videos in and out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from singleshot import Detections
from singleshot.errors import ConfigError, ImageError
from singleshot.prediction.frames import Failure, Frame, Prediction
from singleshot.prediction.output_folder import ResultFolder
from singleshot.prediction.output_names import OutputNames
from singleshot.prediction.sinks import SINKS, Run
from singleshot.prediction.video import FrameChoice, Video

pytest.importorskip("av")
from made_videos import make_sound, make_video, number_of


def frames_of(path: Path, **choice: object) -> list[Frame]:
    found = list(Video(path, FrameChoice(**choice)))  # type: ignore[arg-type]
    assert not [item for item in found if isinstance(item, Failure)], found
    return [item for item in found if isinstance(item, Frame)]


def times(frames: list[Frame]) -> list[float]:
    return [round(frame.time_s or 0, 3) for frame in frames]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx265"),
        ("a.webm", "libvpx-vp9"),
        ("a.mkv", "libsvtav1"),
        ("a.avi", "mjpeg"),
        ("a.ts", "libx264"),
    ],
)
def test_every_frame_comes_once_at_its_time(name: str, codec: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / name, 12, 10, (64, 80), codec=codec)
    video = Video(path)
    frames = frames_of(path)
    assert [number_of(frame.pixels) for frame in frames] == list(range(12))
    assert times(frames) == pytest.approx([number / 10 for number in range(12)], abs=1e-3)
    assert [(frame.index, frame.name) for frame in frames[:2]] == [(0, f"{path}/000000"), (1, f"{path}/000001")]
    assert video.info.size_hw == (64, 80) == frames[0].pixels.shape[:2]
    assert video.info.fps == pytest.approx(10, rel=0.1)


def test_the_frames_that_are_wanted(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 60, 10)
    assert [frame.index for frame in frames_of(path, every=20)] == [0, 20, 40]
    assert times(frames_of(path, fps=2)) == [number / 2 for number in range(12)]
    assert times(frames_of(path, fps=4, max_frames=5)) == [0, 0.3, 0.5, 0.8, 1.0]
    assert len(frames_of(path, fps=50)) == 60
    late = frames_of(path, start_s=4.0, end_s=4.5)
    assert times(late) == [4.0, 4.1, 4.2, 4.3, 4.4]
    assert [number_of(frame.pixels) for frame in late] == [frame.index % 40 for frame in late] == [0, 1, 2, 3, 4]
    assert [frame.index for frame in late] == [40, 41, 42, 43, 44]
    wanted: list[tuple[dict[str, float], int]] = [
        ({}, 60),
        ({"every": 7}, 9),
        ({"fps": 5.0}, 30),
        ({"max_frames": 9}, 9),
        ({"start_s": 5.0}, 10),
    ]
    for choice, count in wanted:
        assert Video(path, FrameChoice(**choice)).expected == count  # type: ignore[arg-type]


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    at = [0, 0.04, 0.5, 0.9, 1.0, 3.0]
    path = make_video(tmp_path / "a.mp4", 6, 25, times_s=at)
    assert times(frames_of(path)) == pytest.approx(at, abs=1e-3)
    assert times(frames_of(path, fps=2)) == pytest.approx([0, 0.5, 1.0, 3.0], abs=1e-3)


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_a_telephone_held_upright(degrees: int, corner: tuple[int, int], tmp_path: Path) -> None:
    frame = frames_of(make_video(tmp_path / "a.mp4", 2, turned=degrees))[0]
    assert frame.pixels.shape[:2] == ((64, 48) if degrees != 180 else (48, 64))
    assert (frame.pixels[corner] > 240).all()  # the white corner
    assert (frame.pixels[tuple(-1 - edge for edge in corner)] < 60).all()


def test_a_file_that_was_cut_off_gives_what_it_has_and_a_line(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 40, 10, size_hw=(120, 160), codec="mjpeg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = list(Video(path))
    good = [item for item in found if isinstance(item, Frame)]
    failures = [item for item in found if isinstance(item, Failure)]
    assert 5 < len(good) < 35
    assert failures
    assert all("a.mkv" in str(item.error) for item in failures)


def test_damage_in_the_middle_is_one_line(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 40, 10, size_hw=(96, 128))
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 1200
    data[begin : begin + 400] = bytes(400)
    path.write_bytes(data)
    found = list(Video(path))
    assert sum(isinstance(item, Frame) for item in found) > 20
    assert all("a.mp4" in str(item.error) for item in found if isinstance(item, Failure))


def test_what_is_no_video_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("hello " * 100)
    make_sound(tmp_path / "sound.m4a")
    for name, words in (
        ("empty.mp4", "cannot be opened"),
        ("text.mp4", "cannot be opened"),
        ("none.mp4", "No such file"),
        ("sound.m4a", "holds no pictures, only audio"),
    ):
        with pytest.raises(ImageError, match=f"{name}.*{words}"):
            Video(tmp_path / name)
    with pytest.raises(ImageError, match=r"max_pixels=3072"):
        Video(make_video(tmp_path / "a.mp4", 2), max_pixels=1000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"fps": 0.0},
        {"fps": 2.0, "every": 2},
        {"start_s": 3.0, "end_s": 2.0},
        {"max_frames": 0},
        {"end_s": -1.0},
    ],
)
def test_choices_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        FrameChoice(**wrong)  # type: ignore[arg-type]


def write(out: Path, frames: list[Frame], sources: list[Path]) -> None:
    """Send frames to the video sink."""
    with (
        ResultFolder(out, sources, False) as folder,
        SINKS.get("video")(Run(folder, OutputNames(sources), len(frames))) as sink,
    ):
        for frame in frames:
            sink.write(Prediction(frame, Detections.empty(("a",), frame.pixels.shape[:2])))


def test_the_video_that_is_written_reads_back(tmp_path: Path) -> None:
    import av

    at = [0.5, 0.54, 1.0, 1.4, 1.5, 3.5]
    path = make_video(tmp_path / "clip.mp4", 6, 25, times_s=at, sound=True)
    frames = frames_of(path)
    write(tmp_path / "out", frames, [path])
    written = tmp_path / "out" / "videos" / "clip.mp4"
    back = frames_of(written)
    assert [number_of(frame.pixels) for frame in back] == list(range(6))
    assert times(back) == pytest.approx([time - times(frames)[0] for time in times(frames)], abs=1e-3)
    with av.open(str(written)) as file:
        assert [stream.codec_context.name for stream in file.streams] == ["h264", "aac"]
        sound = [packet for packet in file.demux(file.streams.audio[0]) if packet.size]
    assert len(sound) > 1
    assert not list((tmp_path / "out" / "videos").glob(".*"))


def test_odd_sides_and_still_images_make_a_video(tmp_path: Path) -> None:
    frames = [Frame(np.full((31, 45, 3), 100, dtype=np.uint8), f"p/{i}.jpg", i, None, True) for i in range(3)]
    write(tmp_path / "out", frames, [Path(frame.name) for frame in frames])
    back = frames_of(tmp_path / "out" / "videos" / "images.mp4")
    assert [frame.pixels.shape for frame in back] == [(32, 46, 3)] * 3


@pytest.mark.skipif(which("ffprobe") is None, reason="ffprobe is not installed")
def test_ffprobe_agrees_with_what_is_written(tmp_path: Path) -> None:
    at = [0.5, 0.54, 1.0, 1.4, 1.5, 3.5]
    path = make_video(tmp_path / "clip.mp4", 6, 25, times_s=at, sound=True, turned=90)
    frames = frames_of(path)
    write(tmp_path / "out", frames, [path])
    options = ["-v", "error", "-of", "json", "-count_frames", "-show_streams", "-show_packets", "-select_streams", "v"]
    file = str(tmp_path / "out" / "videos" / "clip.mp4")
    shown = subprocess.run(["ffprobe", *options, file], capture_output=True, check=True)
    found = json.loads(shown.stdout)
    (stream,) = found["streams"]
    assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
    assert int(stream["nb_read_frames"]) == len(frames) == 6
    assert (stream["width"], stream["height"]) == (48, 64)  # upright, and so with no note to turn it
    assert not stream.get("side_data_list")
    written = sorted(float(packet["pts_time"]) for packet in found["packets"])
    assert written == pytest.approx([time - times(frames)[0] for time in times(frames)], abs=1e-3)
