"""The format ``torchscript``: ``torch.jit.load`` runs it, in C++ too, without Python."""

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


class TorchScriptWriter:
    """TorchScript."""

    name = "torchscript"
    title = "TorchScript"
    suffixes = (".torchscript",)
    levels: tuple[Level, ...] = ("end2end", "decoded", "raw")
    precisions: tuple[Precision, ...] = ("fp32",)

    def available(self) -> SingleshotError | None:
        """Whether torch is missing."""
        return missing_torch("an export to TorchScript")

    def refusal(self, info: ExportInfo) -> str | None:
        """All networks go in; NMS has a fixed form."""
        return needs_fixed_nms(info)

    def write(self, origin: Origin, info: ExportInfo, path: Path) -> None:
        """Trace it; sizes stay free where the level has them free."""
        import torch

        from singleshot.export.program import build_program, example, exporting

        program = build_program(origin, info)
        with exporting():
            traced = torch.jit.trace(program, (example(info),), check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, path, _extra_files=to_metadata(info, program.anchors_cxcywh.numpy()))

    def not_run(self) -> str | None:
        """Torch is here."""
        return None

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Load it as any user does."""
        import torch

        module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

        def run(batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
            with torch.inference_mode():
                return [tensor.numpy() for tensor in module(torch.from_numpy(batch))]

        return run


WRITERS.register("torchscript")(TorchScriptWriter())
