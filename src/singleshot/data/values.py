"""Numbers, flags and ids as annotation files write them: as such, or as text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NAN = float("nan")
TRUE = frozenset({"1", "true", "yes", "y", "t"})
FALSE = frozenset({"", "0", "false", "no", "n", "f", "none", "null"})
_FOUR_NUMBERS = re.compile(r"[\s\[\](){}]+|[,;]")
MAX_SHOWN = 80


def as_number(value: object) -> float:
    """A finite number, also one written as text; NaN for anything else (true and false are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return NAN
    if isinstance(value, str) and "_" in value:  # Python would read 1_0 as ten
        return NAN
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return NAN
    return number if math.isfinite(number) else NAN


def to_float32(values: Sequence[object] | NDArray[np.generic]) -> NDArray[np.float32]:
    """Numbers as float32; what is too large for it becomes infinite, which no data set takes for a box."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float64).astype(np.float32)


def as_flag(value: object) -> bool | None:
    """Whether a flag is set: true, 1, "1", "true" and the like; ``None`` where that cannot be told."""
    if value is None:
        return False
    if isinstance(value, str):
        text = value.strip().lower()
        number = as_number(text)
        return bool(number) if not math.isnan(number) else True if text in TRUE else False if text in FALSE else None
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return bool(value)
    return None


def as_id(value: object) -> int | str | None:
    """An id: a whole number or a text; 3.0 is 3; ``None`` for anything else (true is no id)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) else None


def as_numeric_id(value: object) -> int | None:
    """An id that is a whole number, also as text."""
    key = as_id(value)
    if isinstance(key, str):
        return int(key) if re.fullmatch(r"\s*-?[0-9]{1,18}(\.0*)?\s*", key) and "." not in key else None
    return key


def four_numbers(value: object) -> tuple[float, float, float, float] | None:
    """Four finite numbers: a list of numbers or of texts, or one text such as ``"1, 2, 3, 4"``; else ``None``."""
    if isinstance(value, str):
        value = [part for part in _FOUR_NUMBERS.sub(" ", value).split(" ") if part]
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    numbers = [as_number(part) for part in value]
    return None if any(map(math.isnan, numbers)) else (numbers[0], numbers[1], numbers[2], numbers[3])


def shown(value: object) -> str:
    """A value as Python writes it, so that ``1`` and ``'1'`` differ, cut to a length that a line can hold."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
