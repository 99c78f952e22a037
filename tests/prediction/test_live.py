"""Streams from a server on loopback that sends numbered pictures, slower or faster than they are looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from singleshot.errors import ConfigError, ImageError, MissingExtraError
from singleshot.prediction.addresses import without_password
from singleshot.prediction.frames import Frame
from singleshot.prediction.live import LiveConfig, LiveSource, is_live_address
from singleshot.prediction.video import FrameChoice

pytest.importorskip("av")
from made_videos import number_of, picture


class Camera:
    """An MJPEG server.

    Attributes:
        number: of the picture that is sent next.
        fps: pictures a second.
    """

    def __init__(self, fps: float = 50, length: int | None = None) -> None:
        self.fps, self.length, self.number, self.silent = fps, length, 0, False
        self._over = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                sent = 0
                while not camera._over.wait(1 / camera.fps):
                    if camera.length is not None and sent >= camera.length:
                        return
                    if camera.silent:
                        continue
                    jpeg = cv2.imencode(".jpg", picture(camera.number), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
                    camera.number, sent = camera.number + 1, sent + 1
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + jpeg + b"\r\n")
                    except OSError:
                        return

            def log_message(self, *_: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/video"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def camera() -> Iterator[Camera]:
    made = Camera()
    yield made
    made.close()


def test_the_newest_frame_is_given_and_no_backlog_grows(camera: Camera) -> None:
    behind = []
    with LiveSource(camera.url, choice=FrameChoice(max_frames=60)) as frames:
        for count, frame in enumerate(frames):
            behind.append((camera.number - 1 - number_of(frame.pixels)) % 40)
            time.sleep(0.08)  # four pictures go by
            if count == 10:
                frames.close()
    assert len(behind) == 11
    assert max(behind[2:]) <= 4  # what FFmpeg's own parser holds back included
    assert frames.dropped > 10


def test_all_gives_every_frame_in_order(camera: Camera) -> None:
    with LiveSource(camera.url, LiveConfig("all", queue=4), FrameChoice(max_frames=15)) as frames:
        seen = []
        for frame in frames:
            seen.append(frame)
            time.sleep(0.01)
    assert [frame.index for frame in seen] == list(range(15))
    numbers = [number_of(frame.pixels) for frame in seen]
    assert numbers == list(range(numbers[0], numbers[0] + 15))
    assert all(isinstance(frame, Frame) and frame.time_s is not None for frame in seen)
    assert seen[0].name == f"{camera.url}/000000"


def test_a_stream_that_ends_is_opened_again() -> None:
    camera, told = Camera(fps=100, length=5), []
    try:
        with LiveSource(camera.url, LiveConfig("all"), FrameChoice(max_frames=18), tell=told.append) as frames:
            numbers = [number_of(frame.pixels) for frame in frames]
    finally:
        camera.close()
    assert len(numbers) == 18
    assert numbers == sorted(numbers)
    assert frames.reconnections >= 3
    assert any("opening it again" in line for line in told)
    assert any(line.endswith(": back") for line in told)


def test_silence_is_told_and_may_end_the_run(camera: Camera) -> None:
    told: list[str] = []
    config = LiveConfig(stalled_s=0.2, give_up_s=0.8)
    with LiveSource(camera.url, config, tell=told.append) as frames:
        for number, _ in enumerate(frames):
            if number == 3:
                camera.silent = True
    assert any("no picture for 0 s; waiting" in line for line in told)
    assert "given up" in told[-1]


def test_a_server_that_accepts_and_sends_nothing_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: LiveSource) -> Iterator[Frame]:
        self._say_opened()
        return iter(())

    monkeypatch.setattr(LiveSource, "_frames", none)
    told: list[str] = []
    config = LiveConfig(stalled_s=0.1, give_up_s=0.3, first_wait_s=0.01, longest_wait_s=0.02)
    with LiveSource("rtsp://camera/1", config, tell=told.append) as frames:
        assert not list(frames)
    assert frames.reconnections > 1
    assert [line.rpartition(";")[2] for line in told] == [" opening it again", " waiting", " given up"]


def test_what_cannot_be_opened_is_an_error_without_its_password() -> None:
    with (
        pytest.raises(ImageError, match=r"http://\*\*\*@127\.0\.0\.1:9/x: .*refused") as caught,
        LiveSource("http://me:secret@127.0.0.1:9/x"),
    ):
        pass
    assert "secret" not in str(caught.value)
    assert without_password("rtsp://me:secret@host:554/1") == "rtsp://***@host:554/1"
    assert without_password("rtsp://host/1") == "rtsp://host/1"
    for unclear in ("rtsp://me:secret@cam:port/1", "rtsp://me:secret@[::1/1"):
        assert without_password(unclear) == "rtsp://***"
        assert is_live_address(unclear)
    with pytest.raises(ImageError, match="/dev/video97"), LiveSource("97"):
        pass


def test_what_goes_wrong_in_the_thread_is_raised_to_who_reads(monkeypatch: pytest.MonkeyPatch, camera: Camera) -> None:
    def broken(*args: object) -> None:
        raise ValueError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(LiveSource, "_check_size", broken)
        with pytest.raises(ValueError, match="a fault"), LiveSource(camera.url) as frames:
            list(frames)
    monkeypatch.setattr("singleshot.prediction.video.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError), LiveSource("0"):
        pass


def test_what_is_live_by_its_address() -> None:
    live = ["0", "rtsp://a/b", "RTSP://a", "udp://@:1234", "/dev/video0"]
    other = ["a.mp4", "http://a/b.mp4", "c:/x.mp4", "1.jpg", "-"]
    assert [is_live_address(text) for text in live + other] == [True] * 5 + [False] * 5


def test_settings_that_make_no_sense() -> None:
    for wrong in ({"policy": "some"}, {"queue": 0}, {"stalled_s": 0.0}):
        with pytest.raises(ConfigError):
            LiveConfig(**wrong)  # type: ignore[arg-type]


def test_frames_are_pictures(camera: Camera) -> None:
    with LiveSource(camera.url, choice=FrameChoice(max_frames=1)) as frames:
        (frame,) = frames
    assert frame.pixels.shape == (48, 64, 3)
    assert frame.pixels.dtype == np.uint8
