"""The format ``torch``: a program of ``torch.export``, which torch and its compilers read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singleshot.core.lazy import lazy_module
from singleshot.export.info import ExportInfo
from singleshot.export.program_writer import ProgramWriter, run_module
from singleshot.export.writers import WRITERS, Run

if TYPE_CHECKING:
    import torch

    import singleshot.export.program as programs
else:
    torch = lazy_module("torch")
    programs = lazy_module("singleshot.export.program")


class TorchExportWriter(ProgramWriter):
    """An exported program."""

    name = "torch"
    title = "torch.export"
    suffixes = (".pt2",)
    levels = ("end2end", "decoded", "raw")
    batch = 2

    def save(
        self, program: programs.Program, images: torch.Tensor, info: ExportInfo, texts: Mapping[str, str], path: Path
    ) -> None:
        """Export it; batch, and sizes where the level has them free, are dynamic."""
        free: dict[int, Any] = {0: torch.export.Dim.AUTO}
        if info.dynamic:
            free |= dict.fromkeys((1, 2) if info.layout == "nhwc" else (2, 3), torch.export.Dim.AUTO)
        exported = torch.export.export(program, (images,), dynamic_shapes=(free,))
        exported.example_inputs = None
        torch.export.save(exported, path, extra_files=dict(texts))

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Load it as any user does."""
        return run_module(torch.export.load(path).module())


WRITERS.register("torch")(TorchExportWriter())
