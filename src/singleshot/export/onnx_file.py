"""The format ``onnx``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import MissingExtraError, SingleshotError
from singleshot.export.info import ExportInfo, Level, Precision, to_metadata
from singleshot.export.writers import WRITERS, Origin, Run


class OnnxWriter:
    """ONNX, for ONNX Runtime and whatever else reads it."""

    name = "onnx"
    title = "ONNX"
    suffixes = (".onnx",)
    levels: tuple[Level, ...] = ("raw",)
    precisions: tuple[Precision, ...] = ("fp32",)

    def available(self) -> SingleshotError | None:
        """Whether a package is missing."""
        missing = next((name for name in ("onnx", "onnxruntime") if find_spec(name) is None), None)
        return MissingExtraError(missing, "onnx", "an export to ONNX") if missing else None

    def refusal(self, info: ExportInfo) -> str | None:
        """Raw heads go in from every network."""
        return None

    def write(self, origin: Origin, info: ExportInfo, path: Path) -> None:
        """Write the model."""
        import onnx

        package = origin.package("onnx")
        model = onnx.load_from_string(package.parts[0])
        for key, text in to_metadata(info, package.anchors_cxcywh).items():
            model.metadata_props.add(key=key, value=text)
        path.write_bytes(model.SerializeToString())

    def not_run(self) -> str | None:
        """ONNX Runtime runs everywhere."""
        return None

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open it in ONNX Runtime."""
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def run(batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
            found: list[NDArray[Any]] = session.run(list(info.outputs), {name: np.ascontiguousarray(batch)})
            return found

        return run


WRITERS.register("onnx")(OnnxWriter())
