"""What every request passes: its id, the checks of host, origin and token, the log and the counters."""

from __future__ import annotations

import hmac
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from singleshot.serving.logs import log_request, request_id_of
from singleshot.serving.options import LOOPBACK
from singleshot.serving.problems import HttpProblem
from singleshot.serving.responses import problem_response
from singleshot.serving.service import CLIENT_GONE, Service
from singleshot.serving.turns import Turns

PUBLIC = ["/", "/v2/health/live", "/v2/health/ready"]
"""Paths that need no token: they tell nothing; probes have none, and the page asks for it."""

PUBLIC_PREFIXES: list[str] = ["/page/"]
"""Beginnings of such paths."""


class Gate:
    """ASGI middleware around all routes.

    Args:
        app: what is behind it.
        service: options and counters.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._turns = Turns()
        token = service.options.token
        self._token = None if token is None else token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        start = scope["singleshot_start"] = monotonic()
        request_id = scope["singleshot_request_id"] = request_id_of(headers.get("x-request-id", ""))
        seen: dict[str, Any] = {}

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["code"] = message["status"]
                added = MutableHeaders(scope=message)
                added["X-Request-Id"] = request_id
                added["X-Content-Type-Options"] = "nosniff"
                if self._service.is_draining:
                    added["Connection"] = "close"
            await send(message)

        error: BaseException | None = None
        await self._turns.take()
        try:
            self._check(scope, headers)
            await self._app(scope, receive, send_on)
        except HttpProblem as problem:
            await problem_response(problem, request_id, scope["path"])(scope, receive, send_on)
        except Exception as fault:  # ours: it is logged, and the client is told no more than that
            error = fault
            if "code" not in seen:
                told = HttpProblem(500, "an error of the service; its log has it by this request_id")
                await problem_response(told, request_id, scope["path"])(scope, receive, send_on)
        finally:
            self._note(scope, seen.get("code", CLIENT_GONE), monotonic() - start, error)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Refuse who may not ask.

        Raises:
            HttpProblem: 401, 403 or 421.
        """
        host = headers.get("host", "")
        if self._service.options.is_local and _name_of(host) not in LOOPBACK:
            # A page of another site whose name leads to 127.0.0.1.
            raise HttpProblem(421, "this service answers to localhost only: start it with another `host`")
        origin = headers.get("origin")
        if origin is not None and self._token is None and _host_of(origin) != host:
            raise HttpProblem(403, "pages of other sites may not use this service")
        path = scope["path"]
        if self._token is None or path in PUBLIC or path.startswith(tuple(PUBLIC_PREFIXES)):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        if scheme.lower() != "bearer" or not is_right:
            raise HttpProblem(401, "a token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    def _note(self, scope: Scope, code: int, seconds: float, error: BaseException | None) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._service.metrics.count_request(route, code, seconds)
        fields = {
            "request_id": scope["singleshot_request_id"],
            "method": scope["method"],
            "route": route,
            "code": code,
            "ms": round(1000 * seconds, 2),
            **scope.get("singleshot_log", {}),
        }
        log_request(fields, error)


def _host_of(origin: str) -> str | None:
    """``Origin`` without its scheme; ``None`` where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _name_of(host: str) -> str:
    """``Host`` without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
