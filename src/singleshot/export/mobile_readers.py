"""Files of ExecuTorch and LiteRT as models: ours by the texts behind their end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from singleshot.export.appended import read_appended
from singleshot.export.info import read_metadata
from singleshot.export.package import Kind
from singleshot.export.readers import READERS, ExportedFile


@dataclass(frozen=True, slots=True)
class FlatbufferReader:
    """One format of flatbuffers.

    Attributes:
        kind: its name.
        mark: bytes 4 to 8 of a file.
    """

    kind: str
    mark: bytes

    @property
    def backends(self) -> tuple[Kind, ...]:
        """Only its own package runs it."""
        return ()

    def recognises(self, path: Path, start: bytes) -> bool:
        """By the flatbuffer's identifier; its last letters are a version."""
        return start[4:].startswith(self.mark)

    def read(self, path: Path) -> ExportedFile:
        """What lies behind its end."""
        info, anchors = read_metadata(read_appended(path), path)
        return ExportedFile(path, self.kind, info, anchors)


READERS.register("executorch")(FlatbufferReader("executorch", b"ET"))
READERS.register("litert")(FlatbufferReader("litert", b"TFL3"))
