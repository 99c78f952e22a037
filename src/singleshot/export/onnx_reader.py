"""ONNX files as models: ours by their metadata, others by the names of their outputs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from singleshot.errors import WeightsError
from singleshot.export.foreign_onnx import recognise_foreign
from singleshot.export.info import KEY, ExportInfo, read_metadata
from singleshot.export.onnx_contents import Contents, read_contents
from singleshot.export.onnx_run import OnnxRun
from singleshot.export.package import Kind
from singleshot.export.readers import READERS, ExportedFile

LATEST_IR = 30
_SECOND_TAGS = {0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72}


class OnnxReader:
    """ONNX."""

    backends: tuple[Kind, ...] = ("onnx", "openvino")

    def recognises(self, path: Path, start: bytes) -> bool:
        """A file begins with the version of its format (field 1), and another field follows."""
        return len(start) > 2 and start[0] == 0x08 and 0 < start[1] <= LATEST_IR and start[2] in _SECOND_TAGS

    def read(self, path: Path) -> ExportedFile:
        """Ours by their metadata, others by the names of their outputs."""
        contents = read_contents(path)
        if KEY not in contents.texts:
            return recognise_foreign(path, contents.fed, contents.outputs)
        info, anchors = read_metadata(contents.texts, path)
        _check_ports(path, info, contents)
        thresholds = tuple(port.name for port in contents.inputs if port.name in contents.initializers)
        backends = self.backends if info.level == "raw" else self.backends[:1]
        opened = partial(OnnxRun, outputs=info.outputs)
        return ExportedFile(path, "onnx", info, anchors, backends, thresholds, opened)


def _check_ports(path: Path, info: ExportInfo, contents: Contents) -> None:
    """Whether the graph takes and gives what the description says."""
    names = [port.name for port in contents.outputs]
    if names != list(info.outputs):
        raise WeightsError(
            f"{path}: gives {', '.join(names)[:200]} where level {info.level} has {', '.join(info.outputs)}: export it "
            "again"
        )
    if not contents.fed or (len(contents.fed) != 1):
        raise WeightsError(f"{path}: takes {len(contents.fed)} inputs in place of one: export it again")
    height, width = info.spec.preprocess.size_hw
    expected = (0, height, width, 3) if info.layout == "nhwc" else (0, 3, height, width)
    shape = contents.fed[0].shape or ()
    if len(shape) != 4 or any(side and side != own for side, own in zip(shape[1:], expected[1:], strict=True)):
        raise WeightsError(f"{path}: its input {shape} is not the {expected} that it describes: export it again")


READERS.register("onnx")(OnnxReader())
