"""Formats that a detector is exported to, by name; what is wished for becomes an `ExportInfo` before any work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.core.registry import Registry
from singleshot.errors import ConfigError, SingleshotError
from singleshot.export.info import ExportInfo, Level, Precision
from singleshot.export.package import Kind, Package
from singleshot.models.config import ModelSpec

if TYPE_CHECKING:
    import singleshot.models.network as networks
else:
    networks = lazy_module("singleshot.models.network")

Run = Callable[[NDArray[Any]], Sequence[NDArray[Any]]]
"""An exported file that is open: what it takes (`Level`), batch first, to its outputs in the order of
`ExportInfo.outputs`."""


class Networks(Protocol):
    """The torch module of a detector."""

    def get(self) -> networks.Network:
        """The module itself, in eval mode on the CPU."""

    def copy(self) -> networks.Network:
        """A copy in eval mode that shares the numbers and may be changed."""


class Origin(Protocol):
    """The detector that is exported (``runtime.source.Source``)."""

    @property
    def spec(self) -> ModelSpec:
        """Everything besides the numbers."""

    @property
    def weights(self) -> Path | None:
        """Its weights file; ``None`` where the network exists only in memory."""

    @property
    def network(self) -> Networks:
        """The torch module."""

    def package(self, kind: Kind, int8: Path | None = None) -> Package:
        """The raw network as OpenVINO or ONNX has it, and the default boxes."""


class ExportWriter(Protocol):
    """One format. Importing its module imports no optional package."""

    @property
    def name(self) -> str:
        """Of the registry."""

    @property
    def title(self) -> str:
        """For people: ``ONNX``."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of its files: the one that is opened first, then those that lie beside it under the same stem."""

    @property
    def levels(self) -> tuple[Level, ...]:
        """What it can hold; the first is what an export gives that names none."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Of the weights; the first is the default."""

    def available(self) -> SingleshotError | None:
        """Why it cannot be written on this machine: the error to raise; ``None`` where it can."""

    def refusal(self, info: ExportInfo) -> str | None:
        """Why it cannot carry this detector in this form, and the remedy; ``None`` where it can. Asked before work."""

    def write(self, origin: Origin, info: ExportInfo, path: Path) -> None:
        """Write the file, and those beside it, into an empty folder.

        Args:
            origin: the detector.
            info: what is to be written; goes into the file with the default boxes (`to_metadata`).
            path: the file, with the first of ``suffixes``.
        """

    def not_run(self) -> str | None:
        """Why its files cannot be run on this machine (then they are not verified); ``None`` where they can."""

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open a file that `write` made, to run it as its users will."""


WRITERS: Registry[ExportWriter] = Registry(
    "export format",
    {
        "onnx": "singleshot.export.onnx_file",
        "openvino": "singleshot.export.openvino_file",
        "torchscript": "singleshot.export.torchscript_file",
        "torch": "singleshot.export.program_file",
        "executorch": "singleshot.export.executorch_file",
        "litert": "singleshot.export.litert_file",
        "coreml": "singleshot.export.coreml_file",
    },
)


def package_of(module: str) -> str:
    """What an index calls the package of a module: ``ai_edge_litert.interpreter`` is in ``ai-edge-litert``."""
    return module.partition(".")[0].replace("_", "-")


@dataclass(frozen=True, slots=True)
class ExportWish:
    """What a user asks for; ``None`` leaves the choice to the format.

    Attributes:
        format: a name of `WRITERS`.
        level: ``raw``, ``decoded``, ``end2end``.
        layout: ``nhwc`` or ``nchw``, of pictures.
        dynamic: whether pictures of any size go in.
        precision: ``fp32``, ``fp16``, ``int8``.
        score: least score of a detection (``end2end``); ``None`` takes the detector's own.
    """

    format: str = "onnx"
    level: str | None = None
    layout: str | None = None
    dynamic: bool = False
    precision: str | None = None
    score: float | None = None


def plan_export(spec: ModelSpec, wish: ExportWish) -> tuple[ExportWriter, ExportInfo]:
    """The format, and what its file will be. Nothing is made.

    Raises:
        ConfigError: wishes that do not go together, or that the format cannot carry; says why.
        MissingExtraError: a package that the format needs is not installed.
    """
    writer = WRITERS.get(wish.format, "`format`")
    level = _one_of(wish.level, writer.levels, "level", writer)
    layouts = ("nhwc", "nchw") if level == "end2end" else ("nchw",)
    if wish.dynamic and level != "end2end":
        raise ConfigError(
            f"`dynamic=True` goes with `level='end2end'`: at `level='{level}'` the default boxes belong to one input "
            "size; leave it out"
        )
    if level != "end2end" and wish.score is not None:
        raise ConfigError(
            f"`score={wish.score:g}` goes with `level='end2end'`: a {level} file gives all scores; leave it out"
        )
    if wish.score is not None:
        spec = spec.model_copy(update={"default_score": wish.score})
    info = ExportInfo.model_validate({
        "kind": wish.format,
        "level": level,
        "layout": _one_of(wish.layout, layouts, "layout", writer, f" with `level='{level}'`"),
        "dynamic": wish.dynamic,
        "precision": _one_of(wish.precision, writer.precisions, "precision", writer),
        "score": spec.default_score,
        "spec": spec,
    })  # fmt: skip
    if reason := writer.refusal(info):
        raise ConfigError(f"{spec.name} cannot go into {writer.title}: {reason}")
    if missing := writer.available():
        raise missing
    return writer, info


def _one_of(wish: str | None, offered: Sequence[str], setting: str, writer: ExportWriter, where: str = "") -> str:
    """What was asked for, or the first that is offered."""
    if wish is None:
        return offered[0]
    if wish not in offered:
        raise ConfigError(f"`{setting}='{wish}'`: {writer.title}{where} offers {', '.join(offered)}")
    return wish
