"""One VOC annotation file, read safely (defusedxml) and with line numbers."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler

import defusedxml.sax
from defusedxml.common import DefusedXmlException

from singleshot.data.problems import Problem
from singleshot.data.records import declared_size

MAX_XML_BYTES = 64 * 2**20
NAN = float("nan")


class VocObject(NamedTuple):
    """One ``<object>``: its box is as written (one-based, inclusive), NaN where a corner is missing or no number."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    line: int


class VocFile(NamedTuple):
    """What matters in one annotation file; ``size_hw`` is ``None`` when missing or not positive."""

    filename: str
    size_hw: tuple[int, int] | None
    line: int | None
    objects: tuple[VocObject, ...]


def parse_voc(path: Path) -> VocFile | Problem | None:
    """Read an annotation file.

    Returns:
        Its content; a problem where it is damaged, unsafe or too large; ``None`` where it does not exist.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return _parse(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=65536)
def _parse(path: Path, size: int, _modified_ns: int) -> VocFile | Problem:
    """The file's content; remembered, because each split asks for the classes of all."""
    if size > MAX_XML_BYTES:
        message = f"{size} bytes are too many for an annotation file (at most {MAX_XML_BYTES})"
        return Problem(path, None, "unreadable-annotation", "skipped", message)
    handler = _Handler()
    try:
        defusedxml.sax.parse(BytesIO(path.read_bytes()), handler, forbid_dtd=True)
    except SAXParseException as error:
        message = f"not valid XML: {error.getMessage()}"
        return Problem(path, error.getLineNumber(), "unreadable-annotation", "skipped", message)
    except DefusedXmlException as error:
        message = f"refused: {type(error).__name__} (document types and entities are not allowed)"
        return Problem(path, None, "unreadable-annotation", "skipped", message)
    except (OSError, ValueError, LookupError) as error:
        return Problem(path, None, "unreadable-annotation", "skipped", f"cannot be read: {error}")
    return handler.result()


class _Handler(ContentHandler):
    """Collects the leaves under ``annotation`` and ``annotation/object`` by their path; parts and the rest pass by."""

    def __init__(self) -> None:
        super().__init__()
        self._path: list[str] = []
        self._text: list[str] = []
        self._leaves: dict[str, str] = {}
        self._object: dict[str, str] = {}
        self._lines: list[int] = []
        self._objects: list[VocObject] = []
        self._size_line: int | None = None
        self._locator: Any = None

    def setDocumentLocator(self, locator: Any) -> None:
        """Keep what knows the line."""
        self._locator = locator

    def startElement(self, name: str, attrs: Any) -> None:
        """Descend."""
        self._path.append(name)
        self._text.clear()
        if self._path[1:] == ["object"]:
            self._lines.append(self._locator.getLineNumber())
            self._object = {}
        elif self._path[1:] == ["size"]:
            self._size_line = self._locator.getLineNumber()

    def characters(self, content: str) -> None:
        """Text of the current leaf, which may come in pieces."""
        self._text.append(content)

    def endElement(self, name: str) -> None:
        """Ascend; keep the leaf, or finish the object."""
        path = self._path[1:]
        self._path.pop()
        text = "".join(self._text).strip()
        self._text.clear()
        if path == ["object"]:
            self._objects.append(self._finish_object())
        elif path[:1] == ["object"]:
            self._object.setdefault("/".join(path[1:]), text)
        else:
            self._leaves.setdefault("/".join(path), text)

    def _finish_object(self) -> VocObject:
        box = tuple(_number(self._object.get(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
        difficult = self._object.get("difficult", "").lower() in ("1", "true", "yes")
        return VocObject(self._object.get("name", ""), box, difficult, self._lines[-1])  # type: ignore[arg-type]

    def result(self) -> VocFile:
        """The file's content."""
        height, width = (_number(self._leaves.get(f"size/{key}", "")) for key in ("height", "width"))
        size_hw = declared_size(height, width)
        return VocFile(self._leaves.get("filename", ""), size_hw, self._size_line, tuple(self._objects))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return NAN
