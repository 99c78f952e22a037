"""Lists of a large JSON file, read element by element, with the line of each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

_SPACE = re.compile(r"[ \t\n\r]*")
_SEPARATOR = re.compile(r"[ \t\n\r]*([,:\]}])[ \t\n\r]*")


class Section(NamedTuple):
    """One list of the file: what was kept of each element, and its line (1 is the first)."""

    values: list[Any]
    lines: list[int]


def read_sections(text: str, keep: Mapping[str, Callable[[Any], Any]]) -> dict[str, Section]:
    """Lists of a JSON object by key; elements are reduced as soon as they are read, so polygons do not pile up.

    Args:
        text: the JSON document, an object.
        keep: for each wanted key what to keep of an element.

    Returns:
        The wanted keys that are there and hold lists.

    Raises:
        json.JSONDecodeError: ``text`` is not JSON, or not an object.
    """
    breaks = np.array([match.start() for match in re.finditer("\n", text)], dtype=np.int64)
    sections: dict[str, Section] = {}
    cursor = _Cursor(text)
    cursor.open("{")
    while not cursor.close("}"):
        key = cursor.value()
        cursor.pass_by(":")
        if key not in keep or not text.startswith("[", cursor.position):
            cursor.value()
            continue
        values, offsets = [], []
        cursor.open("[")
        while not cursor.close("]"):
            offsets.append(cursor.position)
            values.append(keep[key](cursor.value()))
        sections[key] = Section(values, (np.searchsorted(breaks, offsets) + 1).tolist())
    return sections


class _Cursor:
    """A position in a JSON text that moves over whole values and the signs between them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = _SPACE.match(text).end()  # type: ignore[union-attr]
        self._decode = json.JSONDecoder().raw_decode
        self._first = False

    def open(self, bracket: str) -> None:
        """Enter a list or an object."""
        if not self.text.startswith(bracket, self.position):
            raise json.JSONDecodeError(f"Expecting '{bracket}'", self.text, self.position)
        self.position = _SPACE.match(self.text, self.position + 1).end()  # type: ignore[union-attr]
        self._first = True

    def value(self) -> Any:
        """The value here."""
        value, self.position = self._decode(self.text, self.position)
        return value

    def pass_by(self, sign: str) -> None:
        """Move over ``sign``."""
        found = _SEPARATOR.match(self.text, self.position)
        if found is None or found[1] != sign:
            raise json.JSONDecodeError(f"Expecting '{sign}'", self.text, self.position)
        self.position = found.end()

    def close(self, bracket: str) -> bool:
        """Whether the list or object ends here; if not, the next element begins here."""
        found = _SEPARATOR.match(self.text, self.position)
        first, self._first = self._first, False
        if found is not None and found[1] == bracket:
            self.position = found.end()
            return True
        if not first:
            self.pass_by(",")
        return False
