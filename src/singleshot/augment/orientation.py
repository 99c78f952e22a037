"""Classes that a mirrored picture turns into others: left and right arrows, letters, digits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from singleshot.core.wording import listed

_SIDES = re.compile(r"(?<![^\W\d_])(?:left|right|links|rechts|gauche|droite|izquierd[ao]|derech[ao])(?![^\W\d_])")
_ENDS = re.compile(r"(?<![^\W\d_])(?:up|down|top|bottom|upwards?|downwards?)(?![^\W\d_])")
_DIGITS = frozenset(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
_FEW_CHARACTERS = 5
_NAMED = 3


def why_not_mirrored(class_names: Sequence[str], upside_down: bool = False) -> str:
    """Why mirrored pictures of some classes show other ones; empty where nothing in the names says so.

    Args:
        class_names: as the data names them.
        upside_down: top and bottom are exchanged instead of left and right.

    Returns:
        ``classes 'left turn' and 'right turn' name a side``, to go on after a colon.
    """
    sided = [name for name in class_names if (_ENDS if upside_down else _SIDES).search(_in_words(name))]
    if sided:
        return f"{_classes(sided)} {'names' if len(sided) == 1 else 'name'} a side"
    characters = [name for name in class_names if _is_character(name)]
    if len(characters) >= _FEW_CHARACTERS:
        return f"{_classes(characters)} are letters or digits"
    return ""


def _in_words(name: str) -> str:
    """``TurnLeft`` as ``turn left``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _is_character(name: str) -> bool:
    return (len(name) == 1 and name.isalnum()) or name.lower() in _DIGITS


def _classes(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return f"{'class' if len(names) == 1 else 'classes'} {listed(quoted, _NAMED)}"
