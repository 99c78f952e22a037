"""The format ``litert``: TensorFlow Lite's successor, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.export.appended import append_texts
from singleshot.export.info import ExportInfo
from singleshot.export.program_writer import ProgramWriter, one_by_one
from singleshot.export.writers import WRITERS, Run

if TYPE_CHECKING:
    import torch

    import singleshot.export.program as programs
else:
    torch = lazy_module("torch")
    programs = lazy_module("singleshot.export.program")

LABELS = "labels.txt"
"""Class names, a line each, where TensorFlow Lite's own readers of metadata look for them."""


class LiteRTWriter(ProgramWriter):
    """A model of LiteRT, for one image at a time; what it says about itself is a zip archive at its end."""

    name = "litert"
    title = "LiteRT"
    suffixes = (".tflite",)
    packages = ("litert_torch", "ai_edge_litert")

    def save(
        self, program: programs.Program, images: torch.Tensor, info: ExportInfo, texts: Mapping[str, str], path: Path
    ) -> None:
        """Convert it."""
        import litert_torch

        litert_torch.convert(program, (images,)).export(str(path))
        append_texts(path, {**texts, LABELS: "\n".join(info.spec.class_names)})

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open it in LiteRT's interpreter."""
        from ai_edge_litert.interpreter import Interpreter

        signature = Interpreter(model_path=str(path)).get_signature_runner()
        (name,) = signature.get_input_details()

        def run(image: NDArray[Any]) -> Sequence[NDArray[Any]]:
            found = signature(**{name: image})
            return [found[f"output_{number}"] for number in range(len(info.outputs))]

        return one_by_one(run)


WRITERS.register("litert")(LiteRTWriter())
