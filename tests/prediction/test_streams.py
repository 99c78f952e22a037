"""Videos and streams from the command line and from Python, through the bundled detector and through a known one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import singleshot
from singleshot.cli import app
from singleshot.core.postprocess import PaddedArrays, PaddedDetections
from singleshot.detector import Detector
from singleshot.errors import ConfigError, ImageError
from singleshot.prediction.frames import Prediction
from singleshot.prediction.streams import Moving, is_moving, start_of
from singleshot.prediction.video import Video

pytest.importorskip("av")
from test_live import Camera

from made_videos import make_video, number_of, picture


class WhiteCorner:
    """Finds the white corner of made videos: one box over the upper left quarter, certain in every third frame only."""

    name, parallel = "corner", 1

    def __init__(self) -> None:
        self.frames = 0

    def predict(self, batch: NDArray[np.float32]) -> tuple[PaddedArrays, float, float]:
        count, _, height, width = batch.shape
        boxes = np.broadcast_to(np.array((0, 0, width / 4, height / 4), np.float32), (count, 1, 4))
        numbers = np.arange(self.frames, self.frames + count)
        self.frames += count
        scores = np.where(numbers % 3 == 0, 0.9, 0.2).astype(np.float32)[:, None]
        shown = scores[:, 0] >= self.least
        ones = np.ones(count, dtype=np.int64)
        return PaddedDetections(boxes, scores, 0 * ones[:, None], ones * shown), 0.0, 0.0

    least = 0.0


@pytest.fixture
def corner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WhiteCorner:
    backend = WhiteCorner()

    def open_backend(_self: object, _wish: object, settings: object) -> WhiteCorner:
        backend.least = settings.score_threshold  # type: ignore[attr-defined]
        return backend

    monkeypatch.setattr(Detector, "_backend", open_backend)
    monkeypatch.chdir(tmp_path)
    return backend


def predict(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["predict", *arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output


@pytest.mark.usefixtures("corner")
def test_a_video_from_the_command_line(tmp_path: Path) -> None:
    make_video(tmp_path / "clip.mp4", 12, 10, sound=True)
    code, output = predict("clip.mp4", "--no-labels", "--out", "out")
    assert code == 0, output
    document = json.loads(Path("out/detections.json").read_text())
    assert document["complete"]
    assert [(own["frame"], own["time_s"]) for own in document["images"]] == [(i, i / 10) for i in range(12)]
    assert [len(own["detections"]) for own in document["images"]] == [1, 0, 0] * 4
    frames = list(singleshot.load("coco").stream("out/videos/clip.mp4"))
    assert [number_of(frame.pixels) for frame, _ in frames] == list(range(12))


@pytest.mark.usefixtures("corner")
def test_tracks_in_every_sink(tmp_path: Path) -> None:
    make_video(tmp_path / "clip.mp4", 9, 10)
    code, output = predict(
        "clip.mp4", "--track", "--save", "json,csv,mot,jsonl", "--count", "door:0,5,60,5", "--out", "o"
    )
    assert code == 0, output
    assert [
        own["detections"][0]["track_id"] for own in json.loads(Path("o/detections.json").read_text())["images"][1:]
    ] == [1] * 8
    rows = list(csv.DictReader(Path("o/detections.csv").read_text().splitlines()))
    assert [(row["frame"], row["track_id"]) for row in rows[:2]] == [("0", "-1"), ("1", "1")]
    assert len(Path("o/mot/clip.txt").read_text().splitlines()) == 8
    assert Path("o/crossings.csv").read_text().splitlines() == [
        "source,frame,time_s,line,direction,track_id,class_name"
    ]


@pytest.mark.usefixtures("corner")
def test_parts_of_a_video(tmp_path: Path) -> None:
    make_video(tmp_path / "clip.mp4", 40, 10)
    for options, expected in (
        (["--every", "10"], [0, 10, 20, 30]),
        (["--fps", "1"], [0, 10, 20, 30]),
        (["--start", "0:03.5", "--end", "3.8"], [35, 36, 37]),
        (["--max-frames", "2"], [0, 1]),
    ):
        code, output = predict("clip.mp4", *options, "--save", "jsonl", "--out", "o", "--overwrite")
        assert code == 0, output
        records = [json.loads(line) for line in Path("o/detections.jsonl").read_text().splitlines()[1:]]
        assert [record["frame"] for record in records] == expected


@pytest.mark.usefixtures("corner")
def test_several_videos_of_which_one_is_none(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_video(tmp_path / f"{name}.mp4", 3, 10)
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    code, output = predict("a.mp4", "bad.mp4", "b.mp4", "--save", "video,json", "--out", "o")
    assert code == 1
    assert "1 could not be read" in output
    assert "bad.mp4: cannot be opened as a video" in output
    assert len(json.loads(Path("o/detections.json").read_text())["images"]) == 6
    assert sorted(path.name for path in Path("o/videos").iterdir()) == ["a.mp4", "b.mp4"]
    code, output = predict("bad.mp4")
    assert code == 2
    assert not Path("predictions").exists()


@pytest.mark.usefixtures("corner")
def test_videos_of_one_name_stay_apart(tmp_path: Path) -> None:
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        make_video(tmp_path / folder / "clip.mp4", 3 + number, 10)
    code, output = predict("a/clip.mp4", "b/clip.mp4", "--track", "--save", "video,mot", "--out", "o")
    assert code == 0, output
    lengths = {path.name: len(list(Video(path))) for path in Path("o/videos").iterdir()}
    assert lengths == {"clip.mp4": 3, "clip-2.mp4": 4}
    assert len(list(Path("o/mot").iterdir())) == 2


@pytest.mark.usefixtures("corner")
def test_streams_side_by_side_have_a_video_each() -> None:
    cameras = [Camera(fps=60), Camera(fps=60)]
    urls = [camera.url for camera in cameras]
    try:
        code, output = predict(
            *urls, "--max-frames", "5", "--live", "all", "--track", "--save", "video,mot", "--out", "o"
        )
    finally:
        for camera in cameras:
            camera.close()
    assert code == 0, output
    assert [len(list(Video(path))) for path in Path("o/videos").iterdir()] == [5, 5]
    rows = [path.read_text().splitlines() for path in Path("o/mot").iterdir()]
    assert len(rows) == 2
    assert all(len(own) >= 2 for own in rows)  # how soon a track begins depends on whose frame is a certain one


@pytest.mark.usefixtures("corner")
def test_a_wrong_line_of_a_list_is_named_and_the_rest_done(tmp_path: Path) -> None:
    make_video(tmp_path / "clip.mp4", 1, 10)
    import cv2

    cv2.imwrite("a.png", picture(3))
    Path("list.txt").write_text("a.png\nnone.png\n")
    code, output = predict("@list.txt", "--out", "o")
    assert code == 1, output
    assert "line 2: none.png" in output
    assert len(json.loads(Path("o/detections.json").read_text())["images"]) == 1


@pytest.mark.usefixtures("corner")
def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / "clip.mp4", 3, 10)
    before = (tmp_path / "videos" / "clip.mp4").read_bytes()
    code, output = predict("videos/clip.mp4", "--out", ".", "--overwrite")
    assert code in (1, 2)
    assert "would be overwritten" in output or "is one of" in output or "source" in output
    assert (tmp_path / "videos" / "clip.mp4").read_bytes() == before


@pytest.mark.usefixtures("corner")
def test_a_stream_from_python_and_several_at_once() -> None:
    cameras = [Camera(fps=60), Camera(fps=60)]
    try:
        model = singleshot.load("coco")
        (first, *_) = frames = list(model.stream(cameras[0].url, max_frames=4, live="all", track=True))
        assert len(frames) == 4
        assert isinstance(first, Prediction)
        assert first.detections.track_ids is not None
        both = list(model.stream([camera.url for camera in cameras], max_frames=5, live="all"))
    finally:
        for camera in cameras:
            camera.close()
    assert len(both) == 10
    assert len({frame.source for frame, _ in both}) == 2


@pytest.mark.usefixtures("corner")
def test_a_stream_from_the_command_line() -> None:
    camera = Camera(fps=60)
    try:
        code, output = predict(camera.url, "--max-frames", "4", "--live", "all", "--show", "--out", "o")
    finally:
        camera.close()
    assert code == 0, output
    assert "watch at http://127.0.0.1:" in output
    assert len(Path("o/detections.jsonl").read_text().splitlines()) == 5


@pytest.mark.usefixtures("corner")
def test_wrong_settings_and_mixtures(tmp_path: Path) -> None:
    make_video(tmp_path / "clip.mp4", 2, 10)
    for options, words in (
        (["--count", "1,2"], "--count"),
        (["--count", "a:0,0,5,5"], "--track"),
        (["--save", "mot"], None),
        (["--start", "x"], "--start"),
        (["--fps", "2", "--every", "2"], "exclude each other"),
        (["--live", "some"], "choose latest or all"),
        (["--tile", "abc"], "--tile"),
        (["--merge", "abc"], "--merge"),
    ):
        code, output = predict("clip.mp4", *options, "--out", "o", "--overwrite")
        assert code in (1, 2), (options, output)
        assert words is None or words in output
    assert predict("none.mp4")[0] == 2
    with pytest.raises(ImageError, match=r"none\.mp4"):
        list(singleshot.load("coco").stream("none.mp4"))


@pytest.mark.usefixtures("corner")
def test_zones_and_sizes(tmp_path: Path) -> None:
    make_video(tmp_path / "clip.mp4", 3, 10)  # the box is 16 x 12 pixels, and stands at (8, 12)
    Path("here.json").write_text("[[0, 0], [20, 0], [20, 20], [0, 20]]")
    Path("there.json").write_text("[[30, 0], [60, 0], [60, 20], [30, 20]]")
    for options, count in (
        (["--zone", "here.json"], 1),
        (["--zone", "there.json"], 0),
        (["--min-size", "11"], 1),
        (["--min-size", "13"], 0),
    ):
        code, output = predict("clip.mp4", *options, "--save", "json", "--out", "o", "--overwrite")
        assert code == 0, output
        found = json.loads(Path("o/detections.json").read_text())["images"]
        assert sum(len(own["detections"]) for own in found) == count


@pytest.mark.usefixtures("corner")
def test_images_from_standard_input_and_from_an_address(tmp_path: Path) -> None:
    import cv2

    data = cv2.imencode(".png", picture(3))[1].tobytes()
    result = CliRunner().invoke(app, ["predict", "-", "--out", "o"], input=data)
    assert result.exit_code == 0, result.output
    assert len(json.loads(Path("o/detections.json").read_text())["images"]) == 1
    assert [path.name for path in Path("o/images").iterdir()] == ["stdin.jpg"]
    (tmp_path / "a.png").write_bytes(data)
    Path("list.txt").write_text("a.png\n# none\n\na.png\n")
    code, output = predict("@list.txt", "--out", "l")
    assert code == 0, output
    assert len(json.loads(Path("l/detections.json").read_text())["images"]) == 1


def test_passwords_of_videos_and_of_one_source_of_several_are_not_told() -> None:
    address = "http://me:secret@127.0.0.1:9/clip.mp4"
    with pytest.raises(ImageError, match=r"^http://\*\*\*@127\.0\.0\.1:9/clip\.mp4: cannot be opened") as caught:
        Video(address)
    assert "secret" not in str(caught.value)
    with Moving([address, address]) as moving:
        for failure in moving:
            assert "secret" not in f"{failure.path}{failure.error}"  # type: ignore[union-attr]


def test_what_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("2012").mkdir()
    assert not is_moving("2012")
    assert is_moving("2013")
    moving = ["0", "clip.MP4", "rtsp://a/b", "http://host/stream", "https://host/a.jpg", "-"]
    still = ["a.jpg", "photos", "*.png", "@list.txt", "photos.zip", "s3://bucket/a.jpg"]
    assert [is_moving(text) for text in moving + still] == [True] * 6 + [False] * 6
    assert [start_of(text, "start") for text in ("90", "1:30", "0:01:30.5", None)] == [90, 90, 90.5, None]
    with pytest.raises(ConfigError):
        start_of("1:2:3:4", "start")


def test_the_page_shows_the_newest_picture() -> None:
    from urllib.error import HTTPError
    from urllib.parse import urlsplit
    from urllib.request import Request, urlopen

    from singleshot import Detections
    from singleshot.prediction.frames import Frame
    from singleshot.prediction.viewer import Viewer

    told: list[str] = []
    with Viewer(told.append, window=False) as viewer:
        assert viewer.url is not None
        assert b"<img" in urlopen(viewer.url, timeout=5).read()
        place = urlsplit(viewer.url)
        for address, host in ((f"http://{place.netloc}/", place.netloc), (viewer.url, f"evil.test:{place.port}")):
            with pytest.raises(HTTPError, match=r"404|421"):  # another user, and another site
                urlopen(Request(address, headers={"Host": host}), timeout=5)
        with urlopen(f"{viewer.url}stream", timeout=5) as stream:
            for number in range(3):
                frame = Frame(np.full((40, 60, 3), 50 * number, np.uint8), f"c/{number}", number, number / 10)
                viewer.write(Prediction(frame, Detections.empty(("a",), (40, 60))))
            assert b"--frame\r\nContent-Type: image/jpeg" in stream.read(60)
    assert told == [f"watch at {viewer.url}"]


def test_one_detector_may_be_shared_by_threads(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    clips = [make_video(tmp_path / f"{number}.mp4", 4, 10, (48 + 16 * number, 64)) for number in range(3)]
    model = singleshot.load("coco")

    def look(clip: Path) -> list[dict[str, object]]:
        return [found.to_dict() for _, found in model.stream(clip, 0.05, track=True)]

    alone = [look(clip) for clip in clips]
    assert any(record["detections"] for own in alone for record in own)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(look, clips)) == alone
