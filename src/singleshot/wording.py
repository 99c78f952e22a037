"""How numbers and names are said."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """``1 image``, ``2,000 images``.

    Args:
        count: how many.
        noun: the thing.
        nouns: several of them; ``noun`` with an s by default, and ``classes`` of ``class``.
    """
    several = nouns or f"{noun}{'es' if noun.endswith('s') else 's'}"
    return f"{count:,} {noun if count == 1 else several}"


def listed(items: Sequence[str], most: int = 12) -> str:
    """The first items, and how many more there are."""
    return ", ".join(items[:most]) + (f" and {len(items) - most:,} more" if len(items) > most else "")


def printable(text: str) -> str:
    """Text that any file and terminal can show: control characters, and bytes that are no text, become escapes."""
    shown = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return shown.encode("utf-8", "backslashreplace").decode()
