"""The format ``coreml``: Apple's. Written anywhere, run on a Mac or an iPhone only."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.export.info import ExportInfo
from singleshot.export.program_writer import ProgramWriter, one_by_one
from singleshot.export.writers import WRITERS, Run

if TYPE_CHECKING:
    import torch

    import singleshot.export.program as programs
else:
    torch = lazy_module("torch")
    programs = lazy_module("singleshot.export.program")


class CoreMLWriter(ProgramWriter):
    """A package of Core ML, for one image at a time."""

    name = "coreml"
    title = "Core ML"
    suffixes = (".mlpackage",)
    precisions = ("fp16", "fp32")
    packages = ("coremltools",)

    def save(
        self, program: programs.Program, images: torch.Tensor, info: ExportInfo, texts: Mapping[str, str], path: Path
    ) -> None:
        """Convert the exported network."""
        import coremltools

        model = coremltools.convert(
            torch.export.export(program, (images,)).run_decompositions({}),
            convert_to="mlprogram",
            inputs=[coremltools.TensorType(name="images", shape=images.shape)],
            outputs=[coremltools.TensorType(name=name) for name in info.outputs],
            compute_precision=getattr(coremltools.precision, f"FLOAT{info.precision[2:]}"),
        )
        model.user_defined_metadata.update(texts)
        model.save(str(path))

    def not_run(self) -> str | None:
        """Core ML is a part of macOS."""
        return None if sys.platform == "darwin" else "Core ML runs on macOS only"

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open it in Core ML."""
        import coremltools

        model = coremltools.models.MLModel(str(path))

        def run(image: NDArray[Any]) -> Sequence[NDArray[Any]]:
            found = model.predict({"images": image})
            return [found[name] for name in info.outputs]

        return one_by_one(run)


WRITERS.register("coreml")(CoreMLWriter())
