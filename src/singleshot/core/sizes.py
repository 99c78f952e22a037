"""The sizes that a user writes: of the network's input, and of a batch. One parser and one message each."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Literal, overload

from singleshot.core.setting_errors import SHORT
from singleshot.core.settings import MAX_SIDE
from singleshot.errors import ConfigError

MAX_BATCH = 1024
"""Images that a prediction takes at once: more is a slip of the finger, and would be allocated."""


def parse_size(size: int | str | Sequence[int], name: str = "size") -> tuple[int, int]:
    """``300``, ``"300"``, ``"300x512"`` (HEIGHTxWIDTH) or ``(300, 512)`` as (height, width).

    Args:
        size: one of these.
        name: of the setting, for the error.

    Raises:
        ConfigError: it is none of these.
    """
    parts = size.lower().split("x") if isinstance(size, str) else size if isinstance(size, Sequence) else [size]
    sides = [_whole(part) for part in parts]
    if len(sides) not in (1, 2) or not all(side is not None and 1 <= side <= MAX_SIDE for side in sides):
        what = f"one side or HEIGHTxWIDTH, in pixels up to {MAX_SIDE}, such as 300 or 300x512"
        raise ConfigError(f"`{name}` must be {what}, not {SHORT.repr(size)}")
    return sides[0] or 0, sides[-1] or 0


@overload
def parse_batch_size(value: int) -> int: ...


@overload
def parse_batch_size(value: int | str, *, auto: Literal[True]) -> int | Literal["auto"]: ...


def parse_batch_size(value: int | str, *, auto: bool = False) -> int | Literal["auto"]:
    """A number of images that the network sees at once.

    Args:
        value: the number.
        auto: of training, where ``"auto"`` fits the memory, and where settings may be text.

    Raises:
        ConfigError: it is none.
    """
    if auto and isinstance(value, str) and value == "auto":
        return "auto"
    number = _whole(value) if auto or not isinstance(value, str) else None
    if number is None or number < 1 or (number > MAX_BATCH and not auto):
        what = "of images, 1 or more, or auto" if auto else f"of images in 1..{MAX_BATCH}"
        raise ConfigError(f"`batch_size` must be a whole number {what}, not {SHORT.repr(value)}")
    return number


def _whole(value: Any) -> int | None:
    """A whole number, as such or as text; ``None`` of all else."""
    if isinstance(value, str):
        digits = value.strip()
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
