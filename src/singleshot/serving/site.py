"""The page at ``/``: the files of the folder ``page``, and headers that let it load nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from singleshot import report

FOLDER = Path(__file__).parent / "page"
BASE = Path(report.__file__).parent / "base.css"
"""What all our pages share."""

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Nothing of other hosts, nothing inline, no frame around it; a browser asks whether its copy is still right."""


class PageFile(NamedTuple):
    """A file of the page."""

    body: bytes
    media_type: str
    etag: str


def read_page() -> dict[str, PageFile]:
    """The page's files by name."""
    files = {}
    for path in (BASE, *sorted(FOLDER.iterdir())):
        body = path.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        files[path.name] = PageFile(body, MEDIA_TYPES[path.suffix], etag)
    return files


def add_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files below ``/page/``."""
    files = read_page()

    def answer(name: str, request: Request) -> Response:
        if name not in files:
            raise HTTPException(404, "the page has no such file")
        file = files[name]
        headers = HEADERS | {"ETag": file.etag}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.body, media_type=file.media_type, headers=headers)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return answer("index.html", request)

    @app.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str, request: Request) -> Response:
        return answer(name, request)
