"""The format ``torch``: a program of ``torch.export``, which torch and its compilers read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from singleshot.core.lazy import missing_torch
from singleshot.errors import SingleshotError
from singleshot.export.info import ExportInfo, Level, Precision, to_metadata
from singleshot.export.refusal import needs_fixed_nms
from singleshot.export.writers import WRITERS, Origin, Run


class ProgramWriter:
    """An exported program."""

    name = "torch"
    title = "torch.export"
    suffixes = (".pt2",)
    levels: tuple[Level, ...] = ("end2end", "decoded", "raw")
    precisions: tuple[Precision, ...] = ("fp32",)

    def available(self) -> SingleshotError | None:
        """Whether torch is missing."""
        return missing_torch("an export by torch.export")

    def refusal(self, info: ExportInfo) -> str | None:
        """All networks go in; NMS has a fixed form."""
        return needs_fixed_nms(info)

    def write(self, origin: Origin, info: ExportInfo, path: Path) -> None:
        """Export it; batch, and sizes where the level has them free, are dynamic."""
        import torch

        from singleshot.export.program import build_program, example, exporting

        program = build_program(origin, info)
        free: dict[int, Any] = {0: torch.export.Dim.AUTO}
        if info.dynamic:
            free |= dict.fromkeys((1, 2) if info.layout == "nhwc" else (2, 3), torch.export.Dim.AUTO)
        with exporting():
            exported = torch.export.export(program, (example(info),), dynamic_shapes=(free,))
            exported.example_inputs = None
            torch.export.save(exported, path, extra_files=to_metadata(info, program.anchors_cxcywh.numpy()))

    def not_run(self) -> str | None:
        """Torch is here."""
        return None

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Load it as any user does."""
        import torch

        module = torch.export.load(path).module()

        def run(batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
            with torch.no_grad():
                return [tensor.numpy() for tensor in module(torch.from_numpy(batch))]

        return run


WRITERS.register("torch")(ProgramWriter())
