"""An RTSP camera of numbered pictures, for `benchmarks/live.py --rtsp`: H.264 as cameras send it.

    /usr/bin/python3 benchmarks/rtsp_server.py PORT

Needs Debian's gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-good and -ugly, and no package of ours. Each
picture holds its number, units of 32 and the rest, in two bars of grey, as `benchmarks/live.py` reads them; every
client sees the same pictures at the same time. The number of the newest one is printed as it goes to the encoder.
"""

from __future__ import annotations

import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

FPS, WIDTH, HEIGHT = 25, 320, 240
LAUNCH = (
    f"( appsrc name=camera is-live=true do-timestamp=true format=time block=false "
    f"caps=video/x-raw,format=RGB,width={WIDTH},height={HEIGHT},framerate={FPS}/1 ! videoconvert "
    "! video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max=25 "
    "! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def picture(number: int) -> bytes:
    """Two bars of grey."""
    half = 3 * WIDTH * HEIGHT // 2
    return bytes([8 * (number // 32 % 32)]) * half + bytes([8 * (number % 32)]) * half


def main() -> None:
    """Serve until killed."""
    Gst.init(None)
    cameras = []
    server = GstRtspServer.RTSPServer.new()
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(LAUNCH)
    factory.set_shared(True)
    factory.connect("media-configure", lambda _, media: cameras.append(media.get_element().get_by_name("camera")))
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)

    def feed() -> None:
        number, due = 0, time.monotonic()
        while True:
            due += 1 / FPS
            time.sleep(max(0.0, due - time.monotonic()))
            number = (number + 1) % 1024
            for camera in cameras[-1:]:
                camera.emit("push-buffer", Gst.Buffer.new_wrapped(picture(number)))
            print(number, flush=True)

    threading.Thread(target=feed, daemon=True).start()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
