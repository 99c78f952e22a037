"""The format ``executorch``: PyTorch's runtime for phones and boards; the network runs in XNNPACK."""

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


class ExecuTorchWriter(ProgramWriter):
    """A program of ExecuTorch, for one image at a time; what it says about itself is a zip archive at its end."""

    name = "executorch"
    title = "ExecuTorch"
    suffixes = (".pte",)
    packages = ("executorch",)

    def save(
        self, program: programs.Program, images: torch.Tensor, info: ExportInfo, texts: Mapping[str, str], path: Path
    ) -> None:
        """Export it, and lower to XNNPACK what that can compute."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        exported = torch.export.export(program, (images,))
        lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)
        append_texts(path, texts)

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open it in ExecuTorch's runtime."""
        from executorch.runtime import Runtime

        program = Runtime.get().load_program(path)
        method = program.load_method("forward")

        def run(image: NDArray[Any]) -> Sequence[NDArray[Any]]:
            # The next call writes where these lie.
            return [tensor.numpy().copy() for tensor in method.execute([torch.from_numpy(image)])]

        return one_by_one(run)


WRITERS.register("executorch")(ExecuTorchWriter())
