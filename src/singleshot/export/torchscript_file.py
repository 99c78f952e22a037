"""The format ``torchscript``: ``torch.jit.load`` runs it, in C++ too, without Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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


class TorchScriptWriter(ProgramWriter):
    """TorchScript."""

    name = "torchscript"
    title = "TorchScript"
    suffixes = (".torchscript",)
    levels = ("end2end", "decoded", "raw")
    batch = 2

    def save(
        self, program: programs.Program, images: torch.Tensor, info: ExportInfo, texts: Mapping[str, str], path: Path
    ) -> None:
        """Trace it; sizes stay free where the level has them free."""
        traced = torch.jit.trace(program, (images,), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path, _extra_files=dict(texts))

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Load it as any user does."""
        return run_module(torch.jit.load(path, map_location="cpu"))  # type: ignore[no-untyped-call]


WRITERS.register("torchscript")(TorchScriptWriter())
