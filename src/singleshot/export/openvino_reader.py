"""OpenVINO's IR as models: an ``.xml`` that says what there is, and a ``.bin`` beside it with the numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from singleshot.core.files import is_regular
from singleshot.errors import WeightsError
from singleshot.export.info import read_metadata
from singleshot.export.package import Kind
from singleshot.export.readers import READERS, ExportedFile
from singleshot.export.seal import check_openvino

MAX_XML_BYTES = 2**27
MAX_NUMBERS_BYTES = 2**33
MAX_SIDES = 64

_ITEM_BITS = {
    "f64": 64, "f32": 32, "f16": 16, "bf16": 16, "i64": 64, "u64": 64, "i32": 32, "u32": 32, "i16": 16, "u16": 16,
    "i8": 8, "u8": 8, "boolean": 8, "i4": 4, "u4": 4, "u1": 1,
}  # fmt: skip


class OpenVinoReader:
    """OpenVINO IR."""

    backends: tuple[Kind, ...] = ("openvino",)

    def recognises(self, path: Path, start: bytes) -> bool:
        """XML whose first element is a net."""
        head = start.lstrip(b"\xef\xbb\xbf \t\r\n")
        return head.startswith((b"<?xml", b"<net")) and b"<net" in head[:1024]

    def read(self, path: Path) -> ExportedFile:
        """Ours by their ``rt_info``."""
        net = _parse(path)
        _check_numbers(net, path)
        check_openvino(path.read_bytes(), path)
        texts = {entry.tag: entry.get("value", "") for part in net.findall("rt_info") for entry in part}
        info, anchors = read_metadata(texts, path)
        names = [
            name
            for layer in net.findall("layers/layer")
            if layer.get("type") == "Result"
            for name in layer.get("output_names", "").split(",")
            if name
        ]
        if names and not set(info.outputs) <= set(names):
            raise WeightsError(
                f"{path}: gives {', '.join(names)[:200]}, not {', '.join(info.outputs)}: export it again"
            )
        return ExportedFile(path, "openvino", info, anchors, self.backends)


def _parse(path: Path) -> Any:
    """The XML, of a believable size and without entities.

    Raises:
        WeightsError: it is damaged.
    """
    size = path.stat().st_size
    if size > MAX_XML_BYTES:
        raise WeightsError(f"{path}: {size:,} bytes; the XML of a network has at most {MAX_XML_BYTES:,}")
    try:
        return fromstring(path.read_bytes())
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise WeightsError(f"{path}: damaged or truncated XML ({error}); export it again") from None


def _check_numbers(net: Any, path: Path) -> None:
    """Every constant lies in the ``.bin`` and is as large as its shape says.

    Raises:
        WeightsError: one does not, or the file is missing.
    """
    numbers = path.with_suffix(".bin")
    if not is_regular(numbers):
        raise WeightsError(f"{path}: its numbers are missing: put {numbers.name} beside it")
    size = numbers.stat().st_size
    if size > MAX_NUMBERS_BYTES:
        raise WeightsError(f"{numbers}: {size:,} bytes; at most {MAX_NUMBERS_BYTES:,} are read")
    for layer in net.iter("layer"):
        data = layer.find("data")
        if layer.get("type") != "Const" or data is None:
            continue
        try:
            offset, length = int(data.get("offset", "0")), int(data.get("size", "0"))
            sides = [int(side) for side in data.get("shape", "").split(",") if side.strip()]
            bits = _ITEM_BITS.get(data.get("element_type", ""))
            if len(sides) > MAX_SIDES:
                raise ValueError(f"{len(sides):,} sides")
        except ValueError as error:
            raise WeightsError(f"{path}: a damaged description of a constant ({error}); export it again") from None
        is_wrong = bits is not None and length != (math.prod(sides) * bits + 7) // 8
        if is_wrong or min(offset, length, *sides, 0) < 0:
            raise WeightsError(f"{path}: constant '{layer.get('name')}' does not have the size of its shape: damaged")
        if offset + length > size:
            raise WeightsError(f"{numbers}: truncated: {size:,} bytes, {offset + length:,} promised; get it again")


READERS.register("openvino")(OpenVinoReader())
