"""A network compiled away from torch: one file with the graph, its numbers, the anchors and the `ModelSpec`.

The file is a plain zip. It is what the cache holds, what ``singleshot quantize`` writes and what the bundled int8
detector is. Reading one needs no torch.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, ValidationError

from singleshot.config import Frozen
from singleshot.errors import WeightsError
from singleshot.files import write_atomically
from singleshot.models.config import ModelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = ".compiled"
FORMAT = 1
MAX_PART_BYTES = 4 * 1024**3

Kind = Literal["openvino", "onnx"]
_PARTS = {"openvino": ("model.xml", "model.bin"), "onnx": ("model.onnx",)}


class PackageInfo(Frozen):
    """What a compiled network says about itself.

    Attributes:
        kind: who reads the graph.
        format: of the file.
        quantized: whether convolutions are int8.
        weights_sha256: of the weights file that it was made from; empty for a network in memory.
        made_with: package versions, for people.
        spec: the detector.
        quantization: for int8: images, settings and what was measured.
    """

    kind: Kind
    format: Literal[1] = 1
    quantized: bool = False
    weights_sha256: str = ""
    made_with: str = ""
    spec: ModelSpec
    quantization: dict[str, str | float] = Field(default_factory=dict)


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

    def save(self, path: Path) -> Path:
        """Write the file; a crash never leaves half of one."""
        anchors = io.BytesIO()
        np.save(anchors, self.anchors_cxcywh)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(_entry("info.json"), self.info.model_dump_json())
            archive.writestr(_entry("anchors.npy"), anchors.getvalue(), zipfile.ZIP_DEFLATED)
            for name, part in zip(_PARTS[self.info.kind], self.parts, strict=True):
                is_small = self.info.quantized or name.endswith(".xml")
                packed = zipfile.ZIP_DEFLATED if is_small else zipfile.ZIP_STORED  # floats would not shrink
                archive.writestr(_entry(name), part, packed)
        return write_atomically(path, buffer.getvalue())


def _entry(name: str) -> zipfile.ZipInfo:
    """With a fixed date, so that equal networks are equal files."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def read_package(path: Path) -> Package:
    """Read a compiled network.

    Raises:
        WeightsError: missing, damaged, of another kind or format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = PackageInfo.model_validate_json(_part(archive, "info.json"))
            anchors = np.load(io.BytesIO(_part(archive, "anchors.npy")), allow_pickle=False)
            return Package(info, anchors, tuple(_part(archive, name) for name in _PARTS[info.kind]))
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, KeyError, ValidationError, ValueError, EOFError) as error:
        raise WeightsError(f"{path}: not a compiled network of this singleshot, or damaged: {error}") from error


def read_info(path: Path) -> PackageInfo | None:
    """What a compiled network says about itself; ``None`` where there is none that can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return PackageInfo.model_validate_json(_part(archive, "info.json"))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):
        return None


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > MAX_PART_BYTES:
        raise ValueError(f"{name} has {size:,} bytes")
    return archive.read(name)
