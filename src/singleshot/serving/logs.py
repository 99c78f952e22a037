"""One JSON line for each request and event: what was asked and how it ended, nothing of any image."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

LOGGER = "singleshot.serving"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_STDERR = 2

_GATHER_S = 0.02
"""Between two times that lines are written."""

_MOST_LINES = 10_000
"""Lines that wait where nobody takes them; older ones are lost."""

_LONGEST_TEXT = 1000

_END = "\0\n"
"""The last line of what is relayed."""

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


class LineWriter(logging.Handler):
    """Writes in a thread of its own what is logged: the event loop, which keeps deadlines, waits for no terminal.

    Args:
        file: where lines go; it is closed with this.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._came = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="singleshot-logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Leave a record to the thread."""
        self._lines.append(self.format(record))
        if not self._came.is_set():
            self._came.set()

    def close(self) -> None:
        """Write what is left."""
        self._is_closed = True
        self._came.set()
        self._thread.join()
        self._file.close()
        super().close()

    def _run(self) -> None:
        while not self._is_closed:
            self._came.wait()
            self._came.clear()
            self._write()
            time.sleep(_GATHER_S)
        self._write()

    def _write(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        with suppress(OSError):  # nobody reads them any more
            self._file.write("".join(f"{line}\n" for line in lines))
            self._file.flush()


@contextmanager
def json_logs() -> Iterator[None]:
    """Write what the service logs, and what its server warns of, to standard error; all there is a line of JSON.

    What else is written to standard error meanwhile, by C libraries too (libpng), is logged as the event ``stderr``.
    """
    handler = LineWriter(open(os.dup(_STDERR), "w", encoding="ascii"))  # noqa: SIM115  (the handler closes it)
    handler.setFormatter(JsonLines())
    levels = {LOGGER: logging.INFO, "singleshot": logging.WARNING, "uvicorn": logging.WARNING}
    levels["python_multipart"] = logging.ERROR
    loggers = [logging.getLogger(name) for name in levels]
    for logger, level in zip(loggers, levels.values(), strict=True):
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    before = os.dup(_STDERR)
    end, begin = os.pipe()
    os.dup2(begin, _STDERR)
    relay = threading.Thread(target=_relay, args=(end,), name="singleshot-stderr", daemon=True)
    relay.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, _STDERR)
        os.close(before)
        os.write(begin, f"\n{_END}".encode())  # a process that was started here may keep the pipe open
        os.close(begin)
        relay.join()
        for logger in loggers:
            logger.handlers, logger.propagate = [], True
        handler.close()


def _relay(end: int) -> None:
    """Log the lines of a pipe."""
    with open(end, encoding="utf-8", errors="backslashreplace") as pipe:
        for line in iter(pipe.readline, _END):
            if text := line.strip():
                _log.warning("stderr", extra={"fields": {"text": text[:_LONGEST_TEXT]}})


def request_id_of(wanted: str) -> str:
    """The id of a request: the client's own where it is a plain word, else a new one."""
    return wanted if _REQUEST_ID.fullmatch(wanted) else f"{random.getrandbits(128):032x}"


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
