"""The page's server: for this machine's browser alone, and deaf to every other site that the browser has open.

A page of another site can make a browser ask ``http://127.0.0.1`` for things. Here it gets nothing: the address holds a
secret, the ``Host`` must be this server's (no name that was made to lead here), the ``Origin`` must be its own page, a
decision must be JSON, and what is sent may be embedded nowhere.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from singleshot.browsing.collection import Collection
from singleshot.browsing.decision_book import DecisionBook
from singleshot.browsing.replies import Replies
from singleshot.browsing.second_opinion import SecondOpinion
from singleshot.browsing.thumbnails import SIDES, PictureCache
from singleshot.core.wording import printable
from singleshot.errors import ConfigError, ImageError, OutputError

MAX_BODY_BYTES = 4096
IDLE_S = 60
PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "base.css": ("base.css", "text/css; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "drawing.js": ("drawing.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class BrowseServer(ThreadingHTTPServer):
    """Serves a collection on 127.0.0.1.

    Attributes:
        address: of the page, with its secret.
    """

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, replies: Replies, pictures: PictureCache, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        token = secrets.token_urlsafe(24)
        self.root = f"/{token}/"
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.address = f"http://127.0.0.1:{self.server_port}{self.root}"
        self.pictures = pictures
        self.decide = replies.decide
        self.questions: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "summary": lambda query: replies.summary(),
            "state": lambda query: replies.state(),
            "ids": replies.ids,
            "items": replies.items,
            "image": replies.image,
            "suspects": replies.suspects,
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error."""


def open_server(
    collection: Collection, book: DecisionBook, opinion: SecondOpinion | None = None, port: int = 0
) -> BrowseServer:
    """A server of a collection that waits for ``serve_forever``.

    Args:
        collection: what is shown.
        book: where decisions go.
        opinion: detections beside the labels.
        port: 0 takes a free one.

    Raises:
        OutputError: the port is taken.
    """
    try:
        return BrowseServer(Replies(collection, book, opinion), PictureCache(collection), port)
    except (OSError, OverflowError) as error:
        raise OutputError(f"port {port} cannot be used: {error}; `port=0` takes a free one") from error


class _Refused(Exception):
    """A request that is not answered."""

    def __init__(self, status: HTTPStatus, message: str = "") -> None:
        super().__init__(message or status.phrase)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: BrowseServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "singleshot", ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the user."""

    def _answer(self, work: Callable[[str, Mapping[str, str]], tuple[str, bytes]]) -> None:
        try:
            place, query = self._place()
            kind, body = work(place, query)
            status = HTTPStatus.OK
        except _Refused as error:
            status, kind, body = error.status, *_as_json({"error": str(error)})
        except ConfigError as error:
            status, kind, body = HTTPStatus.BAD_REQUEST, *_as_json({"error": str(error)})
        except (ImageError, OSError) as error:  # OutputError is one: the file of decisions
            status, kind, body = HTTPStatus.CONFLICT, *_as_json({"error": str(error)})
        except Exception as error:  # the page says so; it would take silence for an end of the server
            message = printable(f"{type(error).__name__}: {error}")
            status, kind, body = HTTPStatus.INTERNAL_SERVER_ERROR, *_as_json({"error": message})
        if status != HTTPStatus.OK:
            self.close_connection = True  # what is left of its body would be taken for the next request
        self.send_response(status)
        kept = "private, max-age=3600" if kind == "image/jpeg" else "no-store"
        more = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": kept}
        if self.close_connection:
            more["Connection"] = "close"
        for name, value in (HEADERS | more).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _place(self) -> tuple[str, Mapping[str, str]]:
        """What is asked for below the secret address, where everything about the request is right."""
        if self.headers.get("Host", "") not in self.server.hosts:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST)
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "none")
        opens_page = self.command == "GET" and self.headers.get("Sec-Fetch-Mode") == "navigate"
        if origin is not None and origin not in {f"http://{host}" for host in self.server.hosts}:
            raise _Refused(HTTPStatus.FORBIDDEN)
        if site not in ("same-origin", "none") and not opens_page:
            raise _Refused(HTTPStatus.FORBIDDEN)
        url = urlsplit(self.path)
        root = self.server.root
        if not secrets.compare_digest(url.path[: len(root)].encode(), root.encode()):
            raise _Refused(HTTPStatus.NOT_FOUND)
        try:
            return url.path[len(root) :], dict(parse_qsl(url.query, max_num_fields=20))
        except ValueError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from error

    def _get(self, place: str, query: Mapping[str, str]) -> tuple[str, bytes]:
        if place in PAGE:
            name, kind = PAGE[place]
            home = files("singleshot.report") if name == "base.css" else files("singleshot.browsing") / "page"
            return kind, home.joinpath(name).read_bytes()
        folder, _, name = place.partition("/")
        if folder == "ask" and name in self.server.questions:
            return _as_json(self.server.questions[name](query))
        if folder == "picture" and name.isascii() and name.isdigit() and len(name) < 10:
            return "image/jpeg", self._picture(int(name), query)
        raise _Refused(HTTPStatus.NOT_FOUND)

    def _post(self, place: str, query: Mapping[str, str]) -> tuple[str, bytes]:
        if self.headers.get("Origin") is None:
            raise _Refused(HTTPStatus.FORBIDDEN, "a decision comes from the page, which says its Origin")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY_BYTES:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if place != "decide":
            raise _Refused(HTTPStatus.NOT_FOUND)
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, "a decision is JSON") from error
        return _as_json(self.server.decide(body))

    def _picture(self, image: int, query: Mapping[str, str]) -> bytes:
        if not 0 <= image < len(self.server.pictures):
            raise _Refused(HTTPStatus.NOT_FOUND)
        side = SIDES[-1] if query.get("large") == "1" else SIDES[0]
        numbers = query["part"].split(",") if "part" in query else []
        if not numbers:
            return self.server.pictures.jpeg(image, side)
        if len(numbers) != 4 or not all(n.isascii() and n.isdigit() and len(n) < 9 for n in numbers):
            raise _Refused(HTTPStatus.BAD_REQUEST, "a part is x0,y0,x1,y1")
        x0, y0, x1, y1 = map(int, numbers)
        return self.server.pictures.jpeg(image, side, (x0, y0, x1, y1))


def _as_json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value).encode()
