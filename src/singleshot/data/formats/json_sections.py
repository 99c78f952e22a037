"""Lists of a large JSON file, read piece by piece and element by element, with the line of each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import is_regular

PIECE_BYTES = 2**22
MAX_VALUE_BYTES = 2**27
"""Of one value (an element of a list, or another value of the document): it has to be in memory as a whole."""
MOST_ELEMENTS = 2**14
"""Handed on at once."""
_NUL_SAMPLE = 1024
_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\n\r]*")
_SEPARATOR = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")
_BREAK = re.compile("\n")


class Collector(Protocol):
    """What keeps of a list what matters."""

    def add(self, elements: list[Any], lines: NDArray[np.int64]) -> None:
        """Take the next elements, and the line on which each begins (1 is the first)."""


S = TypeVar("S", bound=Collector)


def utf8_pieces(file: Path, max_bytes: int) -> Iterator[str]:
    """The text of a file in UTF-8 (with a mark or without), cut after braces: none ends within a word or a number.

    Raises:
        OSError: it cannot be read, is no ordinary file, or is larger than ``max_bytes``.
        UnicodeDecodeError: it is in another encoding, or looks so (zero bytes near its begin).
        ValueError: there is no brace for so long that the value cannot be held.
    """
    if not is_regular(file) or file.stat().st_size > max_bytes:
        raise OSError(f"{file}: is not an ordinary file, or larger than {max_bytes:,} bytes")
    with file.open("rb") as opened:
        data = opened.read(PIECE_BYTES)
        if 0 in data[:_NUL_SAMPLE]:
            raise UnicodeDecodeError("utf-8", data, 0, 1, "zero bytes")
        kept, data = bytearray(), data.removeprefix(_BOM)
        while data:
            cut = data.rfind(b"}") + 1
            if cut:
                kept += data[:cut]
                text, kept = kept.decode(), bytearray(data[cut:])
                yield text
            else:
                kept += data
            if len(kept) > MAX_VALUE_BYTES:
                raise _too_long()
            data = opened.read(PIECE_BYTES)
    yield kept.decode()


def _too_long() -> ValueError:
    return ValueError(f"a value of more than {MAX_VALUE_BYTES:,} bytes: is a quote or a bracket missing?")


def read_sections(pieces: Iterable[str], keep: Mapping[str, Callable[[], S]]) -> dict[str, S]:
    """Lists of a JSON object by key. Of its text only some pieces are in memory at once.

    Args:
        pieces: the JSON document, an object, in pieces that end with it or after a ``}``.
        keep: for each wanted key what makes its section.

    Returns:
        The sections of the wanted keys that are there and hold lists. All pieces were read, also after an error: only
        their end tells whether the text is in the encoding that it was taken for.

    Raises:
        json.JSONDecodeError: the text is not JSON, or not an object.
        ValueError: a value is too long.
        RecursionError: a value is nested too deeply.
    """
    rest = iter(pieces)
    fault: Exception | None = None
    sections: dict[str, S] = {}
    try:
        sections = _sections(_Cursor(rest), keep)
    except (ValueError, RecursionError) as error:
        fault = error
    for _ in rest:
        pass
    if fault:
        raise fault
    return sections


def _sections(cursor: _Cursor, keep: Mapping[str, Callable[[], S]]) -> dict[str, S]:
    sections: dict[str, S] = {}
    cursor.expect("{")
    while not cursor.sees("}"):
        key = cursor.value()
        cursor.expect(":")
        if not cursor.sees("["):
            cursor.value()
        elif isinstance(key, str) and key in keep:
            sections[key] = keep[key]()
            cursor.elements(sections[key].add)
        else:
            cursor.elements(_pass_over)
        if not cursor.sees("}"):
            cursor.expect(",")
    return sections


def _pass_over(elements: list[Any], lines: NDArray[np.int64]) -> None:
    """A list that nobody asked for."""


class _Cursor:
    """A position in a JSON text, never on white space, that moves over values and signs; what is passed is dropped."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self.text = ""
        self.position = 0
        self._pieces = pieces
        self._first_line = 1
        self._decode = json.JSONDecoder().raw_decode
        self._more()
        self._skip_space()

    def _more(self) -> bool:
        """Drop what is passed and read on, by as much as is left: so a long value is not begun too often."""
        left = wanted = len(self.text) - self.position
        if left > MAX_VALUE_BYTES:
            raise _too_long()
        parts = []
        while wanted >= 0 and (piece := next(self._pieces, "")):
            parts.append(piece)
            wanted -= len(piece)
        if not parts:
            return False
        self._first_line += self.text.count("\n", 0, self.position)
        if left:
            parts.insert(0, self.text[self.position :])
        self.text, self.position = "".join(parts), 0
        return True

    def _fault(self, message: str, position: int) -> json.JSONDecodeError:
        return self._placed(json.JSONDecodeError(message, self.text, position))

    def _placed(self, error: json.JSONDecodeError) -> json.JSONDecodeError:
        """An error with its line in the whole text."""
        error.lineno += self._first_line - 1
        return error

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether an error may be that the text ends too early: as pieces end after braces, in a string or a list."""
        return error.pos >= len(self.text) or error.msg.startswith("Unterminated string")

    def _skip_space(self) -> None:
        self.position = _SPACE.match(self.text, self.position).end()  # type: ignore[union-attr]
        while self.position == len(self.text) and self._more():
            self.position = _SPACE.match(self.text).end()  # type: ignore[union-attr]

    def sees(self, sign: str) -> bool:
        """Whether ``sign``, of one letter, is here."""
        return self.text.startswith(sign, self.position)

    def expect(self, sign: str) -> None:
        """Move over ``sign``."""
        if not self.sees(sign):
            raise self._fault(f"Expecting '{sign}'", self.position)
        self.position += len(sign)
        self._skip_space()

    def value(self) -> Any:
        """Move over a value."""
        while True:
            try:
                value, self.position = self._decode(self.text, self.position)
            except json.JSONDecodeError as error:
                if not (self._is_cut(error) and self._more()):
                    raise self._placed(error) from None
            else:
                self._skip_space()
                return value

    def elements(self, add: Callable[[list[Any], NDArray[np.int64]], None]) -> None:
        """Move over a list, and hand its elements on, many at once."""
        self.expect("[")
        if self.sees("]"):
            self.expect("]")
            return
        closed = False
        while not closed:
            values: list[Any] = []
            offsets: list[int] = []
            fault = None
            try:
                closed = self._some_elements(values, offsets)
            except json.JSONDecodeError as error:
                fault = error
            if values:
                add(values, self._lines(offsets))
            if fault and not (self._is_cut(fault) and self._more()):
                raise self._placed(fault) from None
            self._skip_space()

    def _some_elements(self, values: list[Any], offsets: list[int]) -> bool:
        """Move over elements that are here as a whole, each with its comma; whether the list ends with the last."""
        text, position, decode, separator = self.text, self.position, self._decode, _SEPARATOR.match
        while len(values) < MOST_ELEMENTS:  # once for each of a million annotations: plain local names
            value, end = decode(text, position)
            found = separator(text, end)
            if found is None:
                raise json.JSONDecodeError("Expecting ',' or ']'", text, end)
            values.append(value)
            offsets.append(position)
            self.position = position = found.end()
            if found[1] == "]":
                return True
        return False

    def _lines(self, offsets: list[int]) -> NDArray[np.int64]:
        first = self._first_line + self.text.count("\n", 0, offsets[0])
        breaks = [match.start() for match in _BREAK.finditer(self.text, offsets[0], offsets[-1])]
        return np.searchsorted(np.array(breaks, np.int64), offsets) + first
