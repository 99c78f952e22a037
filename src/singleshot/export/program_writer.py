"""What the formats share that are made of one torch program (`export.program`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module, missing_torch
from singleshot.errors import MissingExtraError, SingleshotError
from singleshot.export.info import ExportInfo, Level, Precision, to_metadata
from singleshot.export.refusal import needs_fixed_nms
from singleshot.export.writers import Origin, Run, package_of

if TYPE_CHECKING:
    import torch

    import singleshot.export.program as programs
else:
    torch = lazy_module("torch")
    programs = lazy_module("singleshot.export.program")


class ProgramWriter(ABC):
    """A format that a torch program is saved in; its own file says how it is saved and opened.

    Attributes:
        packages: what must be there besides torch: modules, each called after its package.
        batch: images of the example; 1 where the format takes one at a time.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    levels: tuple[Level, ...] = ("decoded", "raw")
    precisions: tuple[Precision, ...] = ("fp32",)
    packages: tuple[str, ...] = ()
    batch: int = 1

    def available(self) -> SingleshotError | None:
        """Whether a package is missing."""
        purpose = f"an export to {self.title}"
        missing = next((module for module in self.packages if find_spec(module) is None), None)
        return MissingExtraError(package_of(missing), self.name, purpose) if missing else missing_torch(purpose)

    def refusal(self, info: ExportInfo) -> str | None:
        """All networks go in; NMS, where the level has it, has a fixed form."""
        return needs_fixed_nms(info)

    def write(self, origin: Origin, info: ExportInfo, path: Path) -> None:
        """Build the program and save it."""
        program = programs.build_program(origin, info)
        with programs.exporting():
            images = programs.example(info, self.batch)
            self.save(program, images, info, to_metadata(info, program.anchors_cxcywh.numpy()), path)

    def not_run(self) -> str | None:
        """What runs it comes with what writes it."""
        return None

    @abstractmethod
    def save(
        self, program: programs.Program, images: torch.Tensor, info: ExportInfo, texts: Mapping[str, str], path: Path
    ) -> None:
        """Write the file.

        Args:
            program: the detector.
            images: an example of what it takes.
            info: what the file will be.
            texts: what the file carries (`to_metadata`).
            path: the file.
        """

    @abstractmethod
    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open a file that `write` made, to run it as its users will."""


def one_by_one(run: Callable[[NDArray[Any]], Sequence[NDArray[Any]]]) -> Run:
    """A batch for what takes one image at a time ``[1, ...]``."""

    def run_batch(batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
        rows = [run(np.ascontiguousarray(image[None])) for image in batch]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    return run_batch


def run_module(module: Callable[[torch.Tensor], Sequence[torch.Tensor]]) -> Run:
    """A torch module as it is."""

    def run(batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
        with torch.inference_mode():
            return [tensor.numpy() for tensor in module(torch.from_numpy(batch))]

    return run
