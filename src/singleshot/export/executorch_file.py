"""The format ``executorch``: PyTorch's runtime for phones and boards; the network runs in XNNPACK."""

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


class ExecuTorchWriter:
    """A program of ExecuTorch, for one image at a time; what it says about itself is a zip archive at its end."""

    name = "executorch"
    title = "ExecuTorch"
    suffixes = (".pte",)
    levels: tuple[Level, ...] = ("decoded", "raw")
    precisions: tuple[Precision, ...] = ("fp32",)

    def available(self) -> SingleshotError | None:
        """Whether the package is missing."""
        is_there = find_spec("executorch") is not None
        return None if is_there else MissingExtraError("executorch", "executorch", "an export to ExecuTorch")

    def refusal(self, info: ExportInfo) -> str | None:
        """All networks go in."""
        return None

    def write(self, origin: Origin, info: ExportInfo, path: Path) -> None:
        """Export it, and lower to XNNPACK what that can compute."""
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        from singleshot.export.program import build_program, example, exporting

        program = build_program(origin, info)
        with exporting():
            exported = torch.export.export(program, (example(info, batch=1),))
            lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
            path.write_bytes(lowered.to_executorch().buffer)
        append_texts(path, to_metadata(info, program.anchors_cxcywh.numpy()))

    def not_run(self) -> str | None:
        """Its runtime comes with the package."""
        return None

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open it in ExecuTorch's runtime."""
        import torch
        from executorch.runtime import Runtime

        program = Runtime.get().load_program(path)
        method = program.load_method("forward")

        def run(batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
            rows = []
            for image in batch:
                found = method.execute([torch.from_numpy(np.ascontiguousarray(image[None]))])
                rows.append([tensor.numpy().copy() for tensor in found])  # the next call writes where these lie
            return [np.concatenate(column) for column in zip(*rows, strict=True)]

        return run


WRITERS.register("executorch")(ExecuTorchWriter())
