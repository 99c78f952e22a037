"""A service that runs: a toy detector behind uvicorn, on a free port, in a thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from singleshot.detector import Detector, load
from singleshot.models.registry import BACKBONES
from singleshot.serving import ServeOptions, create_app
from singleshot.serving.server import GracefulServer, listen

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))


class Live(NamedTuple):
    """A service, and the detector that it runs."""

    url: str
    port: int
    detector: Detector
    service: Any
    folder: Path


@contextmanager
def live_service(folder: Path, detector: Detector | None = None, **options: Any) -> Iterator[Live]:
    """A detector (by default, one with a small network, in ``folder``) as ``toy``, with torch, until the end."""
    with pytest.MonkeyPatch.context() as patch:
        if detector is None:
            import toy

            patch.setitem(BACKBONES._objects, "toy", toy.toy_backbone)
            detector = load(toy.save_toy(folder / "toy.safetensors"))
        chosen = ServeOptions(**{"port": 0, "backend": "torch", "device": "cpu"} | options)
        with listen(chosen) as listener:
            app = create_app({"toy": detector}, chosen)
            server = GracefulServer(app, chosen)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            port = listener.getsockname()[1]
            try:
                yield Live(f"http://127.0.0.1:{port}", port, detector, app.state.service, folder)
            finally:
                server.should_exit = True
                thread.join(20)
                app.state.service.repository.close()
