"""How numbers and names are said."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


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


def similar(name: str, known: Collection[str], otherwise: str = "") -> str:
    """``did you mean a, b?``, or what there is where nothing is near.

    Args:
        name: a wrong one.
        known: the right ones.
        otherwise: instead of all names, where they are too many for a message.
    """
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(close)}?" if close else otherwise or f"there are {', '.join(known)}"


def printable(text: object, *, one_line: bool = False) -> str:
    """Text that any file and terminal can show: escapes for what moves a cursor or turns letters round, and for bytes
    that are no text.

    Args:
        text: names and messages from anywhere.
        one_line: whether tabs and line ends become escapes, too.
    """
    kept = "" if one_line else "\t\n"
    return _UNSHOWN.sub(lambda found: found[0] if found[0] in kept else _escape(ord(found[0])), str(text))


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def no_formula(name: str) -> str:
    """A name for a cell of a CSV file: where a spreadsheet would run it as a formula, an apostrophe comes first."""
    return f"'{name}" if name.startswith(_FORMULA_STARTS) else name


def from_cell(cell: str) -> str:
    """The name that `no_formula` wrote, or any other program that guards cells so."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA_STARTS) else cell


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
