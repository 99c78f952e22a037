"""A network compiled away from torch: one file with the graph, its numbers, the anchors and the `ModelSpec`.

The file is a plain zip. It is what the cache holds, what ``singleshot quantize`` writes and what the bundled int8
detector is. Reading one needs no torch.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from singleshot.core.files import is_regular, write_atomically
from singleshot.core.setting_errors import plain_reason
from singleshot.errors import ConfigError, WeightsError
from singleshot.export.info import MAX_ANCHORS, NetworkInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = ".compiled"
FORMAT = 1
MAX_PART_BYTES = 4 * 1024**3
MAX_SMALL_BYTES = 2**24
"""A part may be this large however well it is packed; beyond, no more than `MAX_RATIO` times its packed size."""
MAX_RATIO = 20
MAX_INFO_BYTES = 2**22

Kind = Literal["openvino", "onnx"]
INFO, ANCHORS = "info.json", "anchors.npy"
_PARTS = {"openvino": ("model.xml", "model.bin"), "onnx": ("model.onnx",)}


def check_kind(name: str) -> Kind:
    """Who runs compiled networks.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in ("openvino", "onnx"):
        raise ConfigError(f"`backend='{name}'`: choose from openvino, onnx")
    return "openvino" if name == "openvino" else "onnx"


class PackageInfo(NetworkInfo):
    """What a compiled network says about itself.

    Attributes:
        kind: who reads the graph.
        quantized: whether convolutions are int8.
        parts_sha256: digests of the other parts by name; files made before there were any have none.
    """

    kind: Kind
    quantized: bool = False
    parts_sha256: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Package:
    """A compiled network in memory.

    Attributes:
        info: what it says about itself.
        anchors_cxcywh: default boxes in pixels of the input, ``[A, 4]`` float32.
        parts: the graph's files: ``(xml, bin)`` or ``(onnx,)``. Its outputs are the raw heads, batch first.
    """

    info: PackageInfo
    anchors_cxcywh: NDArray[np.float32]
    parts: tuple[bytes, ...]

    def save(self, path: Path, pack: bool = False) -> Path:
        """Write the file; a crash never leaves half of one.

        Args:
            path: where.
            pack: whether also floats are packed: of a graph without numbers.
        """
        numbers = io.BytesIO()
        np.save(numbers, self.anchors_cxcywh)
        parts = {ANCHORS: numbers.getvalue(), **dict(zip(_PARTS[self.info.kind], self.parts, strict=True))}
        digests = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(_entry(INFO), self.info.model_copy(update={"parts_sha256": digests}).model_dump_json())
            for name, part in parts.items():
                is_large = name in ("model.bin", "model.onnx") and not (
                    pack or self.info.quantized
                )  # floats would not shrink
                archive.writestr(_entry(name), part, zipfile.ZIP_STORED if is_large else zipfile.ZIP_DEFLATED)
        return write_atomically(path, buffer.getvalue())


def _entry(name: str) -> zipfile.ZipInfo:
    """With a fixed date, so that equal networks are equal files."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def read_package(path: Path) -> Package:
    """Read a compiled network; every part is what its digest says.

    Raises:
        WeightsError: missing, damaged, of another kind or format.
    """
    with _opened(path) as archive:
        info = _info(archive)
        names = (ANCHORS, *_PARTS[info.kind])
        anchors, *parts = (_part(archive, name, info.parts_sha256) for name in names)
        return Package(info, _read_anchors(anchors), tuple(parts))


def read_info(path: Path) -> PackageInfo | None:
    """What a compiled network says about itself; ``None`` where there is no such file.

    Raises:
        WeightsError: it is damaged.
    """
    if not os.path.lexists(path):
        return None
    with _opened(path) as archive:
        return _info(archive)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever goes wrong with it is a `WeightsError`."""
    if not path.exists():
        raise WeightsError(f"{path}: no such file")
    if not is_regular(path):
        raise WeightsError(f"{path}: is not an ordinary file")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except Exception as error:  # damaged zips make zipfile, zlib, json and NumPy raise a dozen types
        reason = plain_reason(error).splitlines()[0]
        raise WeightsError(f"{path}: not a compiled network of this singleshot, or damaged: {reason}") from error


def _info(archive: zipfile.ZipFile) -> PackageInfo:
    return PackageInfo.model_validate_json(_part(archive, INFO, {}, MAX_INFO_BYTES))


def _part(archive: zipfile.ZipFile, name: str, digests: dict[str, str], max_bytes: int = MAX_PART_BYTES) -> bytes:
    """A part of a size that is believable, unpacked no further than that.

    Raises:
        ValueError: it is too large, or not what its digest says.
    """
    entry = archive.getinfo(name)
    size = entry.file_size
    if size > min(max_bytes, max(MAX_SMALL_BYTES, MAX_RATIO * entry.compress_size)):
        raise ValueError(f"{name} would have {size:,} bytes")
    with archive.open(entry) as file:
        part = file.read(size)
        rest = file.read(1)  # also has the checksum compared
    if len(part) != size or rest:
        raise ValueError(f"{name} has not the {size:,} bytes that it should")
    if digests and digests.get(name) != hashlib.sha256(part).hexdigest():
        raise ValueError(f"{name} is not what its digest says")
    return part


def _read_anchors(data: bytes) -> NDArray[np.float32]:
    """``[A, 4]`` of NumPy's format, its sizes compared with the data before anything is made of them."""
    file = io.BytesIO(data)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{ANCHORS} is of another version of NumPy's format")
    shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file)
    values = memoryview(data)[file.tell() :]
    is_table = len(shape) == 2 and shape[1] == 4 and 0 < shape[0] <= MAX_ANCHORS
    if not is_table or in_columns or dtype != np.float32 or len(values) != 16 * shape[0]:
        raise ValueError(f"{ANCHORS} holds no table of four float32 columns")
    anchors = np.frombuffer(values, dtype=np.float32).reshape(shape).copy()
    if not np.isfinite(anchors).all():
        raise ValueError(f"{ANCHORS} holds numbers that are not finite")
    return anchors
