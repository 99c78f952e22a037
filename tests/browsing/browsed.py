"""Small sets to browse, and a browser that says what a real one would."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from singleshot.browsing.web import BrowseServer
from singleshot.data.decisions import read_decisions
from singleshot.images.read import write_image

HOSTILE = "<img src=x onerror=alert(1)>"
"""A class, and with the same signs an image."""


Images = Sequence[tuple[str, list[tuple[int, Sequence[float]]]]]


def make_set(root: Path, images: Images, classes: Sequence[str]) -> Path:
    """A COCO set of images of 80 x 120 with these objects (class, corners)."""
    annotations = []
    for number, (name, objects) in enumerate(images):
        write_image(root / "photos" / name, np.full((80, 120, 3), 20 * number, np.uint8))
        for class_id, (x0, y0, x1, y1) in objects:
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": class_id, "bbox": box})
    content = {
        "images": [{"id": k, "file_name": name, "height": 80, "width": 120} for k, (name, _) in enumerate(images)],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes)],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return root


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Asks as the page's own scripts do, unless told otherwise."""

    def __init__(self, server: BrowseServer) -> None:
        self.server = server
        self.origin = f"http://127.0.0.1:{server.server_port}"

    def get(self, place: str, **headers: str) -> Answer:
        return self._ask("GET", self.server.root + place, None, headers)

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        return self._ask(method, path, body, headers)

    def decide(self, body: object, **headers: str | None) -> Answer:
        given = {"Origin": self.origin, "Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[dict-item]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._ask("POST", self.server.root + "decide", data, given)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, Any]) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        known = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        connection.request(method, path, body, known)
        response: HTTPResponse = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answer


def written(file: Path) -> list[tuple[str, str, str | None]]:
    """(image, action, new class) of the decisions in a file."""
    return [(entry.image, entry.action, entry.to) for entry in read_decisions(file).entries]
