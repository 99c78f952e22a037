"""One JSON line for each request and event: what was asked and how it ended, nothing of any image."""

from __future__ import annotations

import json
import logging
import re
import uuid
from datetime import UTC, datetime
from typing import Any

LOGGER = "singleshot.serving"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_log = logging.getLogger(LOGGER)


class JsonLines(logging.Formatter):
    """A record as one line of JSON; what it carries as ``fields`` is beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def start_logging() -> None:
    """Write what the service logs, and what its server warns of, to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    levels = {LOGGER: logging.INFO, "singleshot": logging.WARNING, "uvicorn": logging.WARNING}
    for name, level in (levels | {"python_multipart": logging.ERROR}).items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def request_id_of(wanted: str) -> str:
    """The id of a request: the client's own where it is a plain word, else a new one."""
    return wanted if _REQUEST_ID.fullmatch(wanted) else uuid.uuid4().hex


def log_event(event: str, **fields: Any) -> None:
    """Log something that is no request."""
    _log.info(event, extra={"fields": fields})


def log_request(fields: dict[str, Any], error: BaseException | None = None) -> None:
    """Log a request that has ended.

    Args:
        fields: request_id, method, route, code, ms ...
        error: what it failed of, where that is a fault of ours.
    """
    level = logging.ERROR if error else logging.INFO
    _log.log(level, "request", extra={"fields": fields}, exc_info=error)
