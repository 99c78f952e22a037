"""What an ONNX file says, read without `onnx` from a mapped file; its numbers stay where they are."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from singleshot.core.files import is_regular
from singleshot.errors import WeightsError
from singleshot.export.seal import KEY as SEAL
from singleshot.export.seal import check_onnx
from singleshot.interop.wire.protobuf import Value, fields, integers, nested, text

MAX_BYTES = 2**31
"""Protocol buffers hold no more."""
MAX_TEXT_BYTES = 2**27
MAX_DEPTH = 8
MAX_SIDE = 2**31
MAX_SIDES = 64

# Numbers of fields in onnx.proto.
GRAPH, METADATA = 7, 14
NODE, INITIALIZER, INPUT, OUTPUT, SPARSE = 1, 5, 11, 12, 15
NODE_ATTRIBUTE, ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 5, 6, 10, 11
DIMS, DATA_TYPE, NAME, RAW_DATA, EXTERNAL, LOCATION = 1, 2, 8, 9, 13, 14

_ITEM_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: of it.
        kind: ONNX's number of its type: 1 float32, 2 uint8, 7 int64.
        shape: sides; 0 where they are open. ``None`` where nothing is said.
    """

    name: str
    kind: int
    shape: tuple[int, ...] | None


@dataclass(slots=True)
class Contents:
    """What an ONNX file says without its numbers."""

    texts: dict[str, str] = field(default_factory=dict)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    initializers: set[str] = field(default_factory=set)

    @property
    def fed(self) -> list[Port]:
        """Inputs that have no value of their own."""
        return [port for port in self.inputs if port.name not in self.initializers]


def read_contents(path: Path) -> Contents:
    """Look through an ONNX file.

    Raises:
        WeightsError: it is damaged, or its numbers are not where it says.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise WeightsError(f"{path}: {size:,} bytes; an ONNX file has at most {MAX_BYTES:,}")
    contents = Contents()
    with path.open("rb") as file:
        # It is closed with the last slice of it, which an error's traceback may hold.
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        _look_through(view, path, contents)
        if SEAL in contents.texts:
            check_onnx(view, path)
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"{path}: a damaged or truncated ONNX file ({error}); export it again") from None
    return contents


def _look_through(model: memoryview, path: Path, contents: Contents) -> None:
    has_graph = False
    for number, _, value in fields(model):
        if number == GRAPH:
            has_graph = True
            _look_at_graph(nested(value), path, contents, 0)
        elif number == METADATA:
            entry = nested(value)
            if len(entry) > MAX_TEXT_BYTES:
                raise ValueError("an absurdly long text")
            parts = {at: text(part) for at, _, part in fields(entry)}
            contents.texts[parts.get(1, "")] = parts.get(2, "")
    if not has_graph:
        raise ValueError("it holds no graph")


def _look_at_graph(graph: memoryview, path: Path, contents: Contents | None, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError("graphs within graphs within graphs")
    for number, _, value in fields(graph):
        if number == NODE:
            _look_at_node(nested(value), path, depth)
        elif number == INITIALIZER:
            name = _check_tensor(nested(value), path)
            if contents is not None:
                contents.initializers.add(name)
        elif number == SPARSE:
            for _, _, part in fields(nested(value)):
                if not isinstance(part, int):
                    _check_tensor(part, path)
        elif number in (INPUT, OUTPUT) and contents is not None:
            (contents.inputs if number == INPUT else contents.outputs).append(_port(nested(value)))


def _look_at_node(node: memoryview, path: Path, depth: int) -> None:
    for number, _, value in fields(node):
        if number != NODE_ATTRIBUTE:
            continue
        for kind, _, part in fields(nested(value)):
            if kind in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                _check_tensor(nested(part), path)
            elif kind in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                _look_at_graph(nested(part), path, None, depth + 1)


def _check_tensor(tensor: memoryview, path: Path) -> str:
    """Its name, if it holds as many bytes as its shape says; else what it says would be allocated."""
    sides: list[int] = []
    kind, raw, name, is_external, external = 0, None, "", False, {}
    for number, wire, value in fields(tensor):
        if number == DIMS:
            sides += integers(wire, value)
        elif number == DATA_TYPE and isinstance(value, int):
            kind = value
        elif number == NAME:
            name = text(value)
        elif number == RAW_DATA:
            raw = len(nested(value))
        elif number == LOCATION:
            is_external = value == 1
        elif number == EXTERNAL:
            entry = {at: text(part) for at, _, part in fields(nested(value))}
            external[entry.get(1, "")] = entry.get(2, "")
    if len(sides) > MAX_SIDES or any(not 0 <= side < MAX_SIDE for side in sides):
        raise ValueError(f"'{name[:80]}' claims impossible sizes")
    count = math.prod(sides)
    expected = (count * _ITEM_BITS.get(kind, 8) + 7) // 8
    if is_external:
        _check_external(name, external, expected, path)
    elif (raw is not None and kind != 8 and raw != expected) or (raw is None and count > len(tensor)):
        raise ValueError(f"the size of '{name[:80]}' does not fit its shape")
    return name


def _check_external(name: str, entry: dict[str, str], expected: int, path: Path) -> None:
    """Numbers in another file: in this folder, and as many as are promised.

    Raises:
        WeightsError: they are elsewhere, or missing.
    """
    location = entry.get("location", "")
    place = path.parent / location
    folder = path.parent.resolve()
    if not location or not place.resolve().is_relative_to(folder):
        raise WeightsError(f"{path}: wants numbers from '{location[:200]}', outside its folder: refused")
    if not is_regular(place):
        raise WeightsError(f"{path}: its numbers are in {place}, which is not there: put it beside the file")
    offset, length = int(entry.get("offset") or 0), int(entry.get("length") or expected)
    if length != expected or offset < 0 or offset + length > place.stat().st_size:
        raise WeightsError(f"{path}: '{name[:80]}' does not fit into {place}: truncated or damaged; get both again")


def _port(value: memoryview) -> Port:
    name, kind, shape = "", 0, None
    for number, _, part in fields(value):
        if number == 1:
            name = text(part)
        elif number == 2:
            kind, shape = _type(nested(part))
    return Port(name, kind, shape)


def _type(value: memoryview) -> tuple[int, tuple[int, ...] | None]:
    kind, shape = 0, None
    for number, _, part in fields(value):
        if number != 1:
            continue
        for at, _, entry in fields(nested(part)):
            if at == 1 and isinstance(entry, int):
                kind = entry
            elif at == 2:
                shape = tuple(_sides(entry))
    return kind, shape


def _sides(shape: Value) -> Iterator[int]:
    for number, _, side in fields(nested(shape)):
        if number == 1:
            yield next((int(value) for at, _, value in fields(nested(side)) if at == 1 and isinstance(value, int)), 0)
