"""Protocol buffers as text, as Caffe describes its networks."""

from __future__ import annotations

import math
import re
from pathlib import Path

from singleshot.core.files import read_text
from singleshot.errors import WeightsError

MAX_FILE_BYTES = 16 * 1024**2
MAX_DEPTH = 32

Scalar = str | float | int
_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?(?![\w.]))|(?P<word>-?[A-Za-z_][\w./]*)"""
    r"""|(?P<mark>[{}<>:\[\],;])"""
)
_OPEN = {"{": "}", "<": ">"}


class Message:
    """A message: every field is a list of what was written under its name, in order."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Scalar | Message]] = {}

    def messages(self, name: str) -> list[Message]:
        """All messages of a field."""
        return [value for value in self.entries.get(name, []) if isinstance(value, Message)]

    def message(self, name: str) -> Message:
        """The last message of a field, or an empty one."""
        return (self.messages(name) or [Message()])[-1]

    def scalars(self, name: str) -> list[Scalar]:
        """All plain values of a field."""
        return [value for value in self.entries.get(name, []) if not isinstance(value, Message)]

    def texts(self, name: str) -> list[str]:
        """All values of a field as text."""
        return [str(value) for value in self.scalars(name)]

    def text(self, name: str, default: str = "") -> str:
        """The last value of a field as text."""
        return (self.texts(name) or [default])[-1]

    def numbers(self, name: str) -> list[float]:
        """All values of a field as numbers.

        Raises:
            ValueError: one is none.
        """
        for value in self.scalars(name):
            if isinstance(value, str):
                raise ValueError(f"'{name}' is '{value[:40]}', not a number")
        return [float(value) for value in self.scalars(name)]

    def number(self, name: str, default: float) -> float:
        """The last value of a field as a number."""
        return (self.numbers(name) or [default])[-1]

    def integers(self, name: str) -> list[int]:
        """All values of a field as whole numbers, cut.

        Raises:
            ValueError: one is none.
        """
        values = self.numbers(name)
        for value in values:
            if not math.isfinite(value):
                raise ValueError(f"'{name}' is {value}, not a whole number")
        return [int(value) for value in values]

    def integer(self, name: str, default: int) -> int:
        """The last value of a field as a whole number, cut."""
        return (self.integers(name) or [default])[-1]

    def flag(self, name: str, default: bool) -> bool:
        """The last value of a field as true or false."""
        value = self.text(name, "true" if default else "false").lower()
        return value in ("true", "t", "1")

    def __contains__(self, name: str) -> bool:
        return name in self.entries


def read_prototxt(path: Path) -> Message:
    """Read a file.

    Raises:
        WeightsError: it is too large, no text, or not well-formed; the message names the line.
    """
    try:
        return parse_prototxt(read_text(path, MAX_FILE_BYTES).text)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read as a description of a network: {error}") from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path}: not text; a .prototxt is") from error
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error


def parse_prototxt(source: str) -> Message:
    """Read text.

    Raises:
        ValueError: it is not well-formed; the message names the line.
    """
    return _Parser(source).parse()


class _Parser:
    """Walks over the tokens once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self.kind, self.value = "", ""
        self.advance()

    def advance(self) -> None:
        """Go to the next token that is no space; the end is a token of kind ``""``."""
        while self.at < len(self.source):
            match = _TOKEN.match(self.source, self.at)
            if match is None:
                raise self.error(f"'{self.source[self.at]}' makes no sense here")
            self.at = match.end()
            if match.lastgroup != "skip":
                self.kind, self.value = str(match.lastgroup), match.group()
                return
        self.kind, self.value = "", ""

    def error(self, what: str) -> ValueError:
        """What is wrong, and where."""
        return ValueError(f"line {self.source.count(chr(10), 0, self.at) + 1}: {what}")

    def parse(self) -> Message:
        """The whole text as one message. Depth is kept in a list: text cannot exhaust the stack."""
        root = Message()
        stack: list[tuple[Message, str]] = [(root, "")]
        while self.kind or len(stack) > 1:
            message, end = stack[-1]
            if end and self.value == end and self.kind == "mark":
                stack.pop()
                self.advance()
            elif self.kind == "mark" and self.value in ",;":
                self.advance()
            elif self.kind == "word":
                inner = self.field(message)
                if inner is not None:
                    stack.append(inner)
            else:
                raise self.error("it ends within a message" if not self.kind else f"'{self.value[:40]}' is no field")
            if len(stack) > MAX_DEPTH:
                raise self.error(f"messages within messages, more than {MAX_DEPTH} deep")
        return root

    def field(self, message: Message) -> tuple[Message, str] | None:
        """A field's name and what follows: a value, a list of values, or the beginning of a message."""
        values = message.entries.setdefault(self.value, [])
        self.advance()
        if self.value == ":" and self.kind == "mark":
            self.advance()
        if self.kind == "mark" and self.value in _OPEN:
            inner = Message()
            values.append(inner)
            end = _OPEN[self.value]
            self.advance()
            return inner, end
        if self.kind == "mark" and self.value == "[":
            self.advance()
            while not (self.kind == "mark" and self.value == "]"):
                if self.kind == "mark" and self.value == ",":
                    self.advance()
                    continue
                values.append(self.scalar())
            self.advance()
            return None
        values.append(self.scalar())
        return None

    def scalar(self) -> Scalar:
        """One value; neighbouring strings are one."""
        kind, value = self.kind, self.value
        if kind not in ("string", "number", "word"):
            raise self.error(f"a value is missing before '{value}'" if kind else "it ends where a value belongs")
        self.advance()
        if kind == "number":
            plain = value.rstrip("fF")
            return float(plain) if re.search(r"[.eE]", plain) else int(plain[:MAX_DIGITS])
        if kind == "word":
            return value
        parts = [value[1:-1]]
        while self.kind == "string":
            parts.append(self.value[1:-1])
            self.advance()
        return re.sub(r"\\(.)", r"\1", "".join(parts))


MAX_DIGITS = 20
"""Of a whole number; the rest of an absurd one is cut off."""
