"""One VOC annotation file, read safely (defusedxml) and with line numbers."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler

import defusedxml.sax
from defusedxml.common import DefusedXmlException

from singleshot.core.files import decode_text, is_regular, read_bytes
from singleshot.data.bad_records import Problem
from singleshot.data.records import declared_size
from singleshot.data.values import as_flag, as_number, shown

MAX_XML_BYTES = 32 * 2**20
# VOC has four levels, labelling tools' attributes a few more.
MAX_DEPTH = 32
MAX_OBJECTS = 200_000
CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*?\?>")
_DECLARED_ENCODING = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)")


class VocObject(NamedTuple):
    """One box of an ``<object>``, as written (one-based, inclusive).

    Attributes:
        name: its class.
        box: xmin, ymin, xmax, ymax.
        difficult: its flag.
        line: of ``<object>``.
        fault: why it has no box or class that can be used; empty where it has.
        note: how it is read where that is not plain: kind and message of a problem.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    line: int
    fault: str = ""
    note: tuple[str, str] | None = None


class VocFile(NamedTuple):
    """What matters in one annotation file; ``size_hw`` is ``None`` when missing or not positive.

    ``guessed_encoding`` names the encoding where the file did not state the one it is in.
    """

    filename: str
    size_hw: tuple[int, int] | None
    line: int | None
    objects: tuple[VocObject, ...]
    guessed_encoding: str = ""


class _RefusedError(ValueError):
    """The file is larger or deeper than any VOC annotation, or none at all."""

    def __init__(self, message: str, kind: str = "unreadable-annotation") -> None:
        super().__init__(message)
        self.kind = kind


def parse_voc(path: Path) -> VocFile | Problem | None:
    """Read an annotation file.

    Returns:
        Its content; a problem where it is damaged, unsafe, too large or of another kind; ``None`` where there is no
        ordinary file.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return _parse(path, status.st_size, status.st_mtime_ns) if is_regular(path) else None


@lru_cache(maxsize=65536)
def _parse(path: Path, _size: int, _modified_ns: int) -> VocFile | Problem:
    """The file's content; remembered, because each split asks for the classes of all."""
    try:
        data = read_bytes(path, MAX_XML_BYTES)
        try:
            return _handle(data)
        except (DefusedXmlException, _RefusedError):
            raise
        except (SAXParseException, ValueError, LookupError):  # ValueError: an encoding of several bytes
            text, encoding = _decode(data)
            return _handle(_DECLARATION.sub("", text, count=1).encode())._replace(guessed_encoding=encoding)
    except SAXParseException as error:
        return _unreadable(path, error.getLineNumber(), f"not valid XML: {error.getMessage()}")
    except DefusedXmlException as error:
        return _unreadable(path, None, f"refused: {type(error).__name__} (document types and entities are not allowed)")
    except _RefusedError as error:
        action = "skipped" if error.kind == "unreadable-annotation" else "noted"
        return Problem(path, None, error.kind, action, str(error))  # type: ignore[arg-type]
    except (OSError, ValueError, LookupError) as error:
        return _unreadable(path, None, f"cannot be read: {error}")


def _unreadable(path: Path, line: int | None, message: str) -> Problem:
    return Problem(path, line, "unreadable-annotation", "skipped", message)


def _handle(data: bytes) -> VocFile:
    handler = _Handler()
    defusedxml.sax.parse(BytesIO(data), handler, forbid_dtd=True)
    return handler.result()


def _decode(data: bytes) -> tuple[str, str]:
    """Text that the XML parser could not decode, and the encoding where it had to be guessed.

    Raises:
        SAXParseException: the encoding is not what is wrong.
        ValueError: the text is in no encoding.
    """
    declared = _DECLARED_ENCODING.match(data)
    if declared:
        try:
            return data.decode(declared[1].decode()), ""
        except UnicodeDecodeError:
            pass  # stated wrongly
    text = decode_text(data)
    if text.encoding == "utf-8" and (not declared or declared[1].lower() in (b"utf-8", b"utf8")):
        _handle(data)  # the text is what it says: the same error again
    return text.text, text.encoding


class _Handler(ContentHandler):
    """Collects the few fields of VOC under ``annotation`` and ``annotation/object``; parts and the rest pass by."""

    def __init__(self) -> None:
        super().__init__()
        self._path: list[str] = []
        self._text: list[str] = []
        self._fields: dict[str, str] = {}
        self._object: dict[str, str] = {}
        self._corners: dict[str, str] = {}
        self._boxes: list[dict[str, str]] = []
        self._polygon: list[tuple[str, str]] = []
        self._line = 0
        self._objects: list[VocObject] = []
        self._size_line: int | None = None
        self._locator: Any = None

    def setDocumentLocator(self, locator: Any) -> None:
        """Keep what knows the line."""
        self._locator = locator

    def startElement(self, name: str, attrs: Any) -> None:
        """Descend."""
        if not self._path and name.lower() != "annotation":
            raise _RefusedError(f"no VOC annotation, which begins with <annotation>, not <{name[:40]}>", "not-voc")
        if len(self._path) >= MAX_DEPTH:
            raise _RefusedError(f"elements are nested more than {MAX_DEPTH} deep; those of VOC are 4 deep")
        depth = len(self._path)
        self._path.append(name)
        self._text.clear()
        if depth == 1 and name == "object":
            self._line = self._locator.getLineNumber()
            self._object, self._boxes, self._polygon = {}, [], []
        elif depth == 2 and name == "bndbox":
            self._corners = {}
        elif depth == 1 and name == "size":
            self._size_line = self._locator.getLineNumber()

    def characters(self, content: str) -> None:
        """Text of the current leaf, which may come in pieces."""
        self._text.append(content)

    def endElement(self, name: str) -> None:
        """Ascend; keep the leaf, or finish the object."""
        path = self._path
        depth = len(path) - 1
        text = "".join(self._text).strip()
        self._text.clear()
        if depth > 1 and path[1] == "object":
            self._keep_of_object(path, depth, text)
        elif depth == 1 and name == "object":
            self._objects += self._finish_object()
            if len(self._objects) > MAX_OBJECTS:
                raise _RefusedError(f"more than {MAX_OBJECTS:,} objects in one image")
        elif (depth == 1 and name == "filename") or (depth == 2 and path[1] == "size"):
            self._fields.setdefault(name, text)
        path.pop()

    def _keep_of_object(self, path: list[str], depth: int, text: str) -> None:
        name = path[-1]
        if depth == 2:
            if name == "bndbox":
                self._boxes.append(self._corners)
            self._object.setdefault(name, text)
        elif depth == 3 and path[2] == "bndbox":
            self._corners.setdefault(name, text)
        elif depth <= 4 and path[2] == "polygon" and name[:1].lower() in ("x", "y") and text:
            self._polygon.append((name[0].lower(), text))

    def _finish_object(self) -> list[VocObject]:
        """One object for each ``<bndbox>``; where there is none, one around the polygon, or one that says so."""
        name = self._object.get("name", "")
        difficult = bool(as_flag(self._object.get("difficult")))
        found = [_box_of(corners) for corners in self._boxes] or [self._box_of_polygon()]
        missing = "" if name else "an object without <name>"
        note = None
        if not self._boxes:
            note = ("polygon", f"{name} has no <bndbox>: of polygons, the upright box around them is used")
        elif len(found) > 1:
            note = ("several-boxes", f"{name} has {len(found)} <bndbox> in one <object>: each is taken for an object")
        return [VocObject(name, box, difficult, self._line, missing or fault, note) for box, fault in found]

    def _box_of_polygon(self) -> tuple[tuple[float, float, float, float], str]:
        """The box around the object's polygon: ``<x1>``, ``<y1>`` ... or ``<pt><x>``, ``<y>`` ..."""
        values = {axis: [as_number(text) for letter, text in self._polygon if letter == axis] for axis in "xy"}
        if not values["x"] or not values["y"]:
            other = "; a <robndbox> (turned box) is not read" if "robndbox" in self._object else ""
            return (math.nan,) * 4, f"no <bndbox> and no <polygon>{other}"
        box = (min(values["x"]), min(values["y"]), max(values["x"]), max(values["y"]))
        bad = any(math.isnan(value) for axis in values.values() for value in axis)
        return box, "no <bndbox>, and a <polygon> with something that is no number" if bad else ""

    def result(self) -> VocFile:
        """The file's content."""
        height, width = (as_number(self._fields.get(key, "")) for key in ("height", "width"))
        size_hw = declared_size(height, width)
        return VocFile(self._fields.get("filename", ""), size_hw, self._size_line, tuple(self._objects))


def _box_of(corners: dict[str, str]) -> tuple[tuple[float, float, float, float], str]:
    """The box, and what is wrong with it as written."""
    x0, y0, x1, y1 = (as_number(corners.get(key, "")) for key in CORNERS)
    faults = [
        f"<{key}> is missing" if key not in corners else f"<{key}> is {shown(corners[key])}, no number"
        for key, value in zip(CORNERS, (x0, y0, x1, y1), strict=True)
        if math.isnan(value)
    ]
    return (x0, y0, x1, y1), ", ".join(faults)
