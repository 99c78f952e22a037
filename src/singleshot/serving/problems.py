"""Why a request is not answered with detections."""

from __future__ import annotations

import math


class QueueFull(Exception):
    """No place for these images.

    Attributes:
        retry_after: seconds after which it is worth another try.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; try again in {math.ceil(retry_after)} s")
        self.retry_after = retry_after


class DeadlineMissed(Exception):
    """The answer would come too late; nothing is computed for it."""

    def __init__(self) -> None:
        super().__init__("the deadline passed, or cannot be met")


class Closed(Exception):
    """The model was unloaded or replaced, and takes nothing more."""

    def __init__(self) -> None:
        super().__init__("the model was unloaded")


class HttpProblem(Exception):
    """What a request is answered instead of detections.

    Attributes:
        code: the HTTP status.
        headers: that the answer carries, too.
    """

    def __init__(self, code: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers or {}
