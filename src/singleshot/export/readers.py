"""Exported files as models: which kind a file is, by its content, and what it says about itself.

A kind joins by one small file with a reader: how its files are told, and where their texts lie (`info.KEY`). It is run
by the writer of the same name (`ExportWriter.open`). Nothing here runs a graph or needs more than NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import is_regular
from singleshot.core.registry import Registry
from singleshot.errors import ConfigError, MissingExtraError, SingleshotError, WeightsError
from singleshot.export.appended import read_appended
from singleshot.export.cache import weights_sha256
from singleshot.export.conversion import as_openvino
from singleshot.export.info import KEY, ExportInfo
from singleshot.export.package import Kind, Package, PackageInfo
from singleshot.export.writers import WRITERS, package_of
from singleshot.models.config import ModelSpec

START_BYTES = 4096
"""So much of a file tells its kind."""


class FileRun(Protocol):
    """An exported file that is open."""

    def __call__(self, batch: NDArray[Any], thresholds: Mapping[str, float]) -> Sequence[NDArray[Any]]:
        """Its outputs, in the order of `ExportInfo.outputs`.

        Args:
            batch: what it takes (`info.Level`).
            thresholds: values in place of the file's own, by name; only of `ExportedFile.thresholds`.
        """


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file that is a detector without torch.

    Attributes:
        path: the file.
        kind: a name of `READERS`, and of what runs it.
        info: what it says about itself; for a foreign one, what is known of its convention.
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]`` float32.
        backends: names of runtimes that a raw file is run by, the preferred one first; empty where only its own package
            runs it.
        thresholds: names of those that a call may replace, as `PostprocessConfig` has them.
        opened: opens it where its writer's ``open`` is not the way.
        notes: what was guessed, a line each.
    """

    path: Path
    kind: str
    info: ExportInfo
    anchors_cxcywh: NDArray[np.float32]
    backends: tuple[Kind, ...] = ()
    thresholds: tuple[str, ...] = ()
    opened: Callable[[Path], FileRun] | None = None
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> ModelSpec:
        """The detector."""
        return self.info.spec

    def open(self) -> FileRun:
        """Open it, to run it as it is.

        Raises:
            MissingExtraError: the package that runs it is not installed.
            WeightsError: that cannot read it.
        """
        try:
            return self.opened(self.path) if self.opened else self._by_writer()
        except SingleshotError:
            raise
        except ModuleNotFoundError as error:
            package = package_of(error.name or self.kind)
            extra = "train" if package == "torch" else self.kind
            raise MissingExtraError(package, extra, f"{self.path}: running it") from error
        except ImportError as error:
            raise WeightsError(
                f"{self.path}: cannot be run: what runs it is installed and damaged ({error}): reinstall the packages "
                f"of the extra '{self.kind}'"
            ) from error
        except Exception as error:  # runtimes' errors have no base of their own
            raise unreadable(self.path, error) from error

    def _by_writer(self) -> FileRun:
        run = WRITERS.get(self.kind).open(self.path, self.info)
        return lambda batch, thresholds: run(batch)

    def package(self, kind: Kind) -> Package:
        """The network of a raw file as a runtime takes it.

        Raises:
            ConfigError: that cannot run it.
            WeightsError: it cannot be read.
        """
        if kind not in self.backends:
            raise ConfigError(wrong_backend(self, kind))
        content = [self.path.read_bytes()]
        if self.kind == "openvino":
            content.append(self.path.with_suffix(".bin").read_bytes())
        info = PackageInfo(
            kind=self.backends[0],
            quantized=self.info.precision == "int8",
            weights_sha256=weights_sha256(self.path),
            made_with=self.info.made_with,
            spec=self.spec,
            quantization=self.info.quantization,
        )
        package = Package(info, self.anchors_cxcywh, tuple(content))
        return as_openvino(package) if kind != info.kind else package


class ExportReader(Protocol):
    """One kind of exported file. Importing its module imports no optional package."""

    @property
    def backends(self) -> tuple[Kind, ...]:
        """Runtimes that run raw files of it, see `ExportedFile`."""

    def recognises(self, path: Path, start: bytes) -> bool:
        """Whether a file is of this kind, even if it is damaged further on.

        Args:
            path: the file.
            start: its first `START_BYTES`.
        """

    def read(self, path: Path) -> ExportedFile:
        """What it says about itself; sizes are compared before anything is allocated.

        Raises:
            WeightsError: it is damaged, absurdly large, or not one that can be a model here; says what to do.
        """


READERS: Registry[ExportReader] = Registry(
    "exported file",
    {
        "onnx": "singleshot.export.onnx_reader",
        "openvino": "singleshot.export.openvino_reader",
        "torchscript": "singleshot.export.torch_readers",
        "torch": "singleshot.export.torch_readers",
        "executorch": "singleshot.export.mobile_readers",
        "litert": "singleshot.export.mobile_readers",
    },
)


def exported_kind(path: Path) -> str | None:
    """The kind of an exported file; ``None`` where it is something else, or nothing."""
    if not is_regular(path):
        return None
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except OSError:
        return None
    if start[8:9] == b"{":  # a weights file of ours
        return None
    return next((name for name in READERS if READERS.get(name).recognises(path, start)), None)


def read_exported(path: Path) -> ExportedFile | None:
    """An exported file as a model; ``None`` where it is something else.

    Raises:
        WeightsError: it is damaged, absurdly large, or not one that can be a model here.
    """
    kind = exported_kind(path)
    if kind is None:
        return None
    try:
        return READERS.get(kind).read(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def is_foreign_tflite(path: Path) -> bool:
    """Whether it is a TFLite graph of another system, whose numbers `singleshot.interop` puts into a network.

    Raises:
        WeightsError: it is ours, or like ours, and damaged.
    """
    return exported_kind(path) == "litert" and KEY not in read_appended(path)


def refuse_exported(path: Path, purpose: str) -> None:
    """Refuse an exported file where a network is needed.

    Raises:
        ConfigError: it is one.
    """
    if exported_kind(path) is not None and not is_foreign_tflite(path):
        raise ConfigError(no_network(path, purpose))


def no_network(path: Path, purpose: str) -> str:
    """What to say where an exported file is no substitute for weights."""
    return f"{path}: {purpose} needs a weights file (.safetensors), not an exported one: name the one it was made from"


def wrong_backend(file: ExportedFile, backend: str) -> str:
    """What to say of a runtime that cannot run a file."""
    offered = "' or '".join(("auto", *file.backends))
    return f"`backend='{backend}'`: {file.path} runs with '{offered}': it is {file.kind}, level {file.info.level}"


def unreadable(path: Path, error: Exception) -> WeightsError:
    """What a runtime's refusal becomes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return WeightsError(f"{path}: cannot be run: {lines[-1][:300]}; it is damaged or foreign: export it again")
