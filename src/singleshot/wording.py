"""How numbers are said."""

from __future__ import annotations


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """``1 image``, ``2,000 images``.

    Args:
        count: how many.
        noun: the thing.
        nouns: several of them; ``noun`` with an s by default, and ``classes`` of ``class``.
    """
    several = nouns or f"{noun}{'es' if noun.endswith('s') else 's'}"
    return f"{count:,} {noun if count == 1 else several}"
