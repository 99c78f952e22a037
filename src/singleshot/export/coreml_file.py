"""The format ``coreml``: Apple's. Written anywhere, run on a Mac or an iPhone only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import MissingExtraError, SingleshotError
from singleshot.export.info import ExportInfo, Level, Precision, to_metadata
from singleshot.export.writers import WRITERS, Origin, Run


class CoreMLWriter:
    """A package of Core ML, for one image at a time."""

    name = "coreml"
    title = "Core ML"
    suffixes = (".mlpackage",)
    levels: tuple[Level, ...] = ("decoded", "raw")
    precisions: tuple[Precision, ...] = ("fp16", "fp32")

    def available(self) -> SingleshotError | None:
        """Whether the package is missing."""
        is_there = find_spec("coremltools") is not None
        return None if is_there else MissingExtraError("coremltools", "coreml", "an export to Core ML")

    def refusal(self, info: ExportInfo) -> str | None:
        """All networks go in."""
        return None

    def write(self, origin: Origin, info: ExportInfo, path: Path) -> None:
        """Convert the exported network."""
        import coremltools
        import torch

        from singleshot.export.program import build_program, example, exporting

        program, images = build_program(origin, info), example(info, batch=1)
        with exporting():
            model = coremltools.convert(
                torch.export.export(program, (images,)).run_decompositions({}),
                convert_to="mlprogram",
                inputs=[coremltools.TensorType(name="images", shape=images.shape)],
                outputs=[coremltools.TensorType(name=name) for name in info.outputs],
                compute_precision=getattr(coremltools.precision, f"FLOAT{info.precision[2:]}"),
            )
        model.user_defined_metadata.update(to_metadata(info, program.anchors_cxcywh.numpy()))
        model.save(str(path))

    def not_run(self) -> str | None:
        """Core ML is a part of macOS."""
        return None if sys.platform == "darwin" else "Core ML runs on macOS only"

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open it in Core ML."""
        import coremltools

        model = coremltools.models.MLModel(str(path))

        def run(batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
            rows = [model.predict({"images": image[None]}) for image in batch]
            return [np.concatenate([row[name] for row in rows]) for name in info.outputs]

        return run


WRITERS.register("coreml")(CoreMLWriter())
