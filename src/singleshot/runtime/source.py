"""What engines are made of: a description, and its numbers as a file or as a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from singleshot.core.lazy import lazy_module, require_torch
from singleshot.core.once import ForkSafeLock, Once, away_from_fork
from singleshot.errors import ConfigError
from singleshot.export.compiled import compiled_file
from singleshot.export.conversion import convert_network
from singleshot.export.int8_file import read_int8
from singleshot.export.package import Kind, Package
from singleshot.export.readers import ExportedFile, no_network
from singleshot.models.config import ModelSpec
from singleshot.weights.file import read_state

if TYPE_CHECKING:
    import torch

    import singleshot.models.network as networks
else:
    networks = lazy_module("singleshot.models.network")
    torch = lazy_module("torch")


class StoredNetwork:
    """The torch module of a detector, built when it is first needed, once.

    Args:
        spec: everything besides the numbers.
        weights: the network's state, or a weights file that holds it; of an exported file there is no module.
        built: the module, where there is one already.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: Mapping[str, torch.Tensor] | Path | ExportedFile,
        built: networks.Network | None = None,
    ) -> None:
        self.built = built
        self._spec = spec
        self._weights = weights
        self._lock = ForkSafeLock()

    def get(self) -> networks.Network:
        """The module itself, on the CPU.

        Raises:
            WeightsError: the weights are damaged or do not fit.
            MissingExtraError: torch is not installed.
            ConfigError: it is an exported file's.
        """
        with self._lock:
            if self.built is None:
                self.built = away_from_fork(self._build)
            return self.built

    def copy(self) -> networks.Network:
        """A copy in eval mode that shares the numbers."""
        from singleshot.runtime.fold import eval_copy

        return eval_copy(self.get())

    def _build(self) -> networks.Network:
        if isinstance(self._weights, ExportedFile):
            raise ConfigError(no_network(self._weights.path, "the network itself"))
        require_torch("the network as a module")
        from singleshot.weights.network import load_network

        if isinstance(self._weights, Path):
            return load_network(self._spec, read_state(self._weights), self._weights)
        return load_network(self._spec, self._weights)


@dataclass(frozen=True, slots=True)
class Source:
    """Where engines get their network, and what was made of it.

    Attributes:
        spec: the detector.
        weights: its weights file, or the exported one; ``None`` where the network exists only in memory.
        network: the same as a torch module.
        file: the exported file that it is.
        made: engines by wish and by plan, and the packages that they share.
        refused: int8 files that turned out to be damaged.
    """

    spec: ModelSpec
    weights: Path | None
    network: StoredNetwork
    file: ExportedFile | None = None
    made: Once = field(default_factory=Once)
    refused: set[Path] = field(default_factory=set)

    def package(self, kind: Kind, int8: Path | None = None) -> Package:
        """The network compiled away from torch; read or made once.

        Args:
            kind: who runs it.
            int8: the int8 file to take.

        Raises:
            WeightsError: the weights, or the int8 file, cannot be read or converted.
        """
        return self.made.get((kind, int8), lambda: self._package(kind, int8))

    def _package(self, kind: Kind, int8: Path | None) -> Package:
        if self.weights is None:
            return away_from_fork(lambda: convert_network(kind, self.network.copy(), self.spec))
        if int8:
            return read_int8(self.weights, kind)
        return self.file.package(kind) if self.file else compiled_file(kind, self.weights)
