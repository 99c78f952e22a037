"""Lists of a large JSON file, read element by element, with the line of each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

_SPACE = re.compile(r"[ \t\n\r]*")
_SEPARATOR = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")


class JsonSection(NamedTuple):
    """One list of the file: what was kept of each element, and its line (1 is the first)."""

    values: list[Any]
    lines: list[int]


def read_sections(text: str, keep: Mapping[str, Callable[[Any], Any]]) -> dict[str, JsonSection]:
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
    sections: dict[str, JsonSection] = {}
    cursor = _Cursor(text)
    cursor.expect("{")
    while not cursor.sees("}"):
        key = cursor.value()
        cursor.expect(":")
        if key in keep and cursor.sees("["):
            values, offsets = cursor.elements(keep[key])
            sections[key] = JsonSection(values, (np.searchsorted(breaks, offsets) + 1).tolist())
        else:
            cursor.value()
        if not cursor.sees("}"):
            cursor.expect(",")
    return sections


class _Cursor:
    """A position in a JSON text, never on white space, that moves over values and signs."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self._decode = json.JSONDecoder().raw_decode
        self._skip_space()

    def _skip_space(self) -> None:
        self.position = _SPACE.match(self.text, self.position).end()  # type: ignore[union-attr]

    def sees(self, sign: str) -> bool:
        """Whether ``sign`` is here."""
        return self.text.startswith(sign, self.position)

    def expect(self, sign: str) -> None:
        """Move over ``sign``."""
        if not self.sees(sign):
            raise json.JSONDecodeError(f"Expecting '{sign}'", self.text, self.position)
        self.position += len(sign)
        self._skip_space()

    def value(self) -> Any:
        """Move over a value."""
        value, self.position = self._decode(self.text, self.position)
        self._skip_space()
        return value

    def elements(self, keep: Callable[[Any], Any]) -> tuple[list[Any], list[int]]:
        """Move over a list: what is kept of each element, and where each begins."""
        values: list[Any] = []
        offsets: list[int] = []
        self.expect("[")
        if self.sees("]"):
            self.expect("]")
            return values, offsets
        text, position, decode, separator = self.text, self.position, self._decode, _SEPARATOR.match
        while True:  # once for each of a million annotations: plain local names
            offsets.append(position)
            value, end = decode(text, position)
            values.append(keep(value))
            found = separator(text, end)
            if found is None:
                raise json.JSONDecodeError("Expecting ',' or ']'", text, end)
            position = found.end()
            if found[1] == "]":
                self.position = position
                return values, offsets
