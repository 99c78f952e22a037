"""The format ``litert``: TensorFlow Lite's successor, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import MissingExtraError, SingleshotError
from singleshot.export.appended import append_texts
from singleshot.export.info import ExportInfo, Level, Precision, to_metadata
from singleshot.export.writers import WRITERS, Origin, Run

LABELS = "labels.txt"
"""Class names, a line each, where TensorFlow Lite's own readers of metadata look for them."""


class LiteRTWriter:
    """A model of LiteRT, for one image at a time; what it says about itself is a zip archive at its end."""

    name = "litert"
    title = "LiteRT"
    suffixes = (".tflite",)
    levels: tuple[Level, ...] = ("decoded", "raw")
    precisions: tuple[Precision, ...] = ("fp32",)

    def available(self) -> SingleshotError | None:
        """Whether a package is missing."""
        missing = next((name for name in ("litert_torch", "ai_edge_litert") if find_spec(name) is None), None)
        return MissingExtraError(missing.replace("_", "-"), "litert", "an export to LiteRT") if missing else None

    def refusal(self, info: ExportInfo) -> str | None:
        """All networks go in."""
        return None

    def write(self, origin: Origin, info: ExportInfo, path: Path) -> None:
        """Convert it."""
        import litert_torch

        from singleshot.export.program import build_program, example, exporting

        program = build_program(origin, info)
        with exporting():
            litert_torch.convert(program, (example(info, batch=1),)).export(str(path))
        labels = {LABELS: "\n".join(info.spec.class_names)}
        append_texts(path, to_metadata(info, program.anchors_cxcywh.numpy()) | labels)

    def not_run(self) -> str | None:
        """Its interpreter comes with the converter."""
        return None

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open it in LiteRT's interpreter."""
        from ai_edge_litert.interpreter import Interpreter

        signature = Interpreter(model_path=str(path)).get_signature_runner()
        (name,) = signature.get_input_details()

        def run(batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
            rows = [signature(**{name: np.ascontiguousarray(image[None])}) for image in batch]
            outputs = [f"output_{number}" for number in range(len(info.outputs))]
            return [np.concatenate([row[output] for row in rows]) for output in outputs]

        return run


WRITERS.register("litert")(LiteRTWriter())
