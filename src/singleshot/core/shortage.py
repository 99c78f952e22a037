"""Memory that there is not enough of, in the words of whoever asked for it."""

from __future__ import annotations

import re

from singleshot.errors import SingleshotError

_SAID = re.compile(
    r"can't allocate memory|bad_alloc|(not enough|out of|insufficient) memory|failed to allocate|can't start new thread"
    r"|thread creation failed|resource temporarily unavailable|failed to map segment|cannot allocate"
    r"|could not create a (primitive|memory)",
    re.IGNORECASE,
)


def is_shortage(error: BaseException) -> bool:
    """Whether an error of Python, NumPy, torch, oneDNN, OpenCV, a runtime or a linker says that memory is short."""
    return isinstance(error, MemoryError) or (
        not isinstance(error, SingleshotError) and _SAID.search(str(error)) is not None
    )


def shortage(error: BaseException) -> str:
    """The same in one line, for a person."""
    said = str(error).strip().splitlines()
    return f"not enough memory ({said[0][:200]})" if said else "not enough memory"
