"""Files of TorchScript and ``torch.export`` as models: ours by their extra files."""

from __future__ import annotations

import zipfile
from pathlib import Path

from singleshot.errors import WeightsError
from singleshot.export.appended import read_texts
from singleshot.export.info import read_metadata
from singleshot.export.package import MAX_RATIO, MAX_SMALL_BYTES, Kind
from singleshot.export.readers import READERS, ExportedFile

MAX_ENTRIES = 100_000


def _names(path: Path, start: bytes) -> set[str]:
    """Names in a zip archive, below its only root; none where it is no archive."""
    if not start.startswith(b"PK\x03\x04"):
        return set()
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.partition("/")[2] for name in archive.namelist()[:MAX_ENTRIES]}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return set()


class TorchScriptReader:
    """TorchScript."""

    backends: tuple[Kind, ...] = ()

    def recognises(self, path: Path, start: bytes) -> bool:
        """An archive with code; weights alone have none."""
        names = _names(path, start)
        return "constants.pkl" in names and any(name.startswith("code/") for name in names)

    def read(self, path: Path) -> ExportedFile:
        """Its extra files; what it would unpack to is compared first."""
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > max(MAX_SMALL_BYTES, MAX_RATIO * path.stat().st_size):
            raise WeightsError(f"{path}: would unpack to {unpacked:,} bytes: damaged; export it again")
        info, anchors = read_metadata(read_texts(path, "extra"), path)
        return ExportedFile(path, "torchscript", info, anchors)


class TorchReader:
    """Programs of ``torch.export``: told, and refused."""

    backends: tuple[Kind, ...] = ()

    def recognises(self, path: Path, start: bytes) -> bool:
        """An archive that says so."""
        return {"archive_format", "models/model.json"} <= _names(path, start)

    def read(self, path: Path) -> ExportedFile:
        """Torch evaluates the sizes in such a file as Python, and unpickles its constants: no check makes that safe."""
        raise WeightsError(
            f"{path}: is a program of torch.export, and torch runs whatever code is in one when it reads it: load the "
            "weights file that it was made from, or export those as ONNX: 'singleshot export WEIGHTS --format onnx'"
        )


READERS.register("torchscript")(TorchScriptReader())
READERS.register("torch")(TorchReader())
