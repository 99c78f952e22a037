"""Results while they come: a window where OpenCV has one, else a page on this machine that any browser shows."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.images.draw import draw_detections
from singleshot.images.lettering import text_plate
from singleshot.prediction.frames import Failure, Prediction

Tell = Callable[[str], object]

_TITLE = "singleshot (q ends, space pauses)"
_PAGE = (
    b"<!doctype html><html lang=en><title>singleshot</title><style>body{margin:0;background:#111}"
    b"img{display:block;margin:auto;max-width:100vw;max-height:100vh}</style><img src=stream alt='detections'>"
)
_BOUNDARY = "frame"


class Viewer:
    """Shows every picture with its boxes and the frames per second. A sink; leaving it ends the window or page.

    Args:
        tell: is told where to look.
        labels, line_width: how boxes are drawn.
        window: whether a window is tried first.
    """

    top = ""

    def __init__(
        self, tell: Tell = print, *, labels: bool = True, line_width: int | None = None, window: bool = True
    ) -> None:
        self._tell, self._labels, self._line_width = tell, labels, line_width
        self._window = window and has_windows()
        self._server: PictureServer | None = None
        self._times: deque[float] = deque(maxlen=30)

    def __enter__(self) -> Self:
        if self._window:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
        else:
            self._server = PictureServer()
            self._tell(f"watch at {self._server.url}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._window:
            cv2.destroyWindow(_TITLE)
        if self._server is not None:
            self._server.close()

    @property
    def url(self) -> str | None:
        """The page's address; ``None`` with a window."""
        return self._server.url if self._server else None

    def write(self, prediction: Prediction) -> None:
        """Show one picture.

        Raises:
            KeyboardInterrupt: the window was closed, or ``q`` pressed: the run ends as by Ctrl-C.
        """
        frame, found = prediction
        picture = draw_detections(
            frame.pixels, found, labels=self._labels, line_width=self._line_width, guides=prediction.guides
        )
        self._times.append(time.perf_counter())
        if len(self._times) > 1:
            self._write_rate(picture)
        if self._server is not None:
            self._server.show(picture)
            return
        cv2.imshow(_TITLE, picture[..., ::-1])
        key = cv2.waitKey(1) & 0xFF
        if key == ord(" "):
            key = cv2.waitKey(0) & 0xFF
        if key in (ord("q"), 27) or cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            raise KeyboardInterrupt

    def fail(self, failure: Failure) -> None:
        """A picture that cannot be read is not shown."""

    def _write_rate(self, picture: NDArray[np.uint8]) -> None:
        rate = (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9)
        plate = text_plate(f"{rate:.1f} fps", max(0.4, picture.shape[0] / 1080), 4, (255, 255, 255), (0, 0, 0))
        height, width = (min(own, whole) for own, whole in zip(plate.shape[:2], picture.shape[:2], strict=True))
        picture[:height, :width] = plate[:height, :width]


def has_windows() -> bool:
    """Whether this OpenCV can open a window: the headless build, which singleshot installs, cannot."""
    try:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
        cv2.destroyWindow(_TITLE)
    except cv2.error:
        return False
    return True


class PictureServer:
    """The newest picture as Motion JPEG, for this user's browser: the address holds a secret, and the ``Host`` must be
    this server's, so that neither other users of this machine nor other sites see the pictures.

    Args:
        port: where to listen; 0 takes a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._changed = threading.Condition()
        self._jpeg, self._number, self._over = b"", 0, False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner._answer(self)

            def log_message(self, format: str, *values: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._host = f"127.0.0.1:{self._server.server_address[1]}"
        self._root = f"/{secrets.token_urlsafe(16)}/"
        self.url = f"http://{self._host}{self._root}"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Make this RGB picture the newest one."""
        encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
        with self._changed:
            self._jpeg, self._number = encoded, self._number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """End the page."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.headers.get("Host") != self._host:
            request.send_error(421)
        elif request.path == self._root:
            request.send_response(200)
            request.send_header("Content-Type", "text/html")
            request.end_headers()
            request.wfile.write(_PAGE)
        elif request.path == f"{self._root}stream":
            request.send_response(200)
            request.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            request.end_headers()
            self._stream(request)
        else:
            request.send_error(404)

    def _stream(self, request: BaseHTTPRequestHandler) -> None:
        shown = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda shown=shown: self._over or self._number != shown)  # type: ignore[misc]
                if self._over:
                    return
                jpeg, shown = self._jpeg, self._number
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                request.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:  # the browser is gone
                return
