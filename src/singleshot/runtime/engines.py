"""The network of one detector and the engines that run it, each made once, from any thread."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singleshot.core.lazy import lazy_module
from singleshot.core.once import ForkSafeLock
from singleshot.errors import WeightsError
from singleshot.export.readers import ExportedFile, unreadable
from singleshot.kernels import prepare
from singleshot.models.config import ModelSpec
from singleshot.runtime.base import Engine
from singleshot.runtime.choose import choose_plan, refuse_int8
from singleshot.runtime.exported import FileEngine, open_file
from singleshot.runtime.registry import AUTO, RUNTIMES, Plan, Wish
from singleshot.runtime.source import Source, StoredNetwork

if TYPE_CHECKING:
    import torch

    import singleshot.models.network as networks
    import singleshot.runtime.changes as changes
else:
    changes = lazy_module("singleshot.runtime.changes")
    networks = lazy_module("singleshot.models.network")
    torch = lazy_module("torch")


class Engines:
    """What runs a detector.

    Pickling and copying take the weights, or the network where the user holds it, and leave the engines. A forked child
    makes its own: those of its parent need threads that do not exist in it.

    Args:
        spec: everything besides the numbers.
        weights: the network's state, a weights file that holds it (read when it is first needed), or an exported file.
    """

    def __init__(self, spec: ModelSpec, weights: Mapping[str, torch.Tensor] | Path | ExportedFile) -> None:
        self.spec = spec
        self.weights = weights
        self._is_shared = False
        self._is_changed = False
        self._start()

    def _start(self, built: networks.Network | None = None) -> None:
        self._network = StoredNetwork(self.spec, self.weights, built)
        self._lock = ForkSafeLock()
        self._pid = os.getpid()
        self._source: Source | None = None
        self._watch: changes.Watch | None = None

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            self._note_changes()
            return {
                "spec": self.spec,
                "weights": _absolute(self.weights),
                "built": self._network.built if self._is_shared else None,
                "_is_shared": self._is_shared,
                "_is_changed": self._is_changed,
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        built = state.pop("built")
        self.__dict__.update(state)
        self._start(built)

    @property
    def file(self) -> ExportedFile | None:
        """The exported file that runs, where it is one."""
        return self.weights if isinstance(self.weights, ExportedFile) else None

    def network(self, shared: bool = False) -> networks.Network:
        """The torch module, in eval mode on the CPU.

        Args:
            shared: whether the user gets it, who may change it.

        Raises:
            WeightsError: the weights are damaged or do not fit.
        """
        with self._lock:
            network = self._network.get()
            if shared and not self._is_shared:
                self._is_shared = True
                self._note_changes()
            return network

    def open(self, wish: Wish) -> Engine:
        """The engine that fulfils a wish, of the network as it is now; the same for all wishes that mean the same.

        Raises:
            ConfigError, MissingExtraError: as `choose_plan`.
            WeightsError: the weights, or the int8 file that was asked for, cannot be read or converted.
        """
        prepare()
        source = self._current()
        engine: Engine = source.made.get(wish, lambda: open_engine(source, wish))
        return engine

    def source(self) -> Source:
        """What engines and exported files are made of: the network as it is now."""
        return self._current()

    def refresh(self) -> None:
        """Forget all engines; from now on a network that the user holds counts as changed."""
        with self._lock:
            self._source, self._is_changed = None, self._is_shared

    def _current(self) -> Source:
        """What engines are made of; anew where the network has changed, and in a forked child."""
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._source = os.getpid(), None
            self._note_changes()
            if self._source is None:
                path = self.file.path if self.file else self.weights
                weights = path if isinstance(path, Path) and not self._is_changed else None
                self._source = Source(self.spec, weights, self._network, self.file)
            return self._source

    def _note_changes(self) -> None:
        """Look whether the user, if he holds the network, has changed it: then older engines are not what to run."""
        network = self._network.built
        if not self._is_shared or network is None:
            return

        if self._watch is None:
            self._watch = changes.Watch(network)
        elif self._watch.has_changed(network):
            self._watch, self._source, self._is_changed = changes.Watch(network), None, True


def _absolute(weights: Any) -> Any:
    """A file by a path that means the same in another folder."""
    if isinstance(weights, ExportedFile):
        return replace(weights, path=weights.path.absolute())
    return weights.absolute() if isinstance(weights, Path) else weights


def open_engine(source: Source, wish: Wish) -> Engine:
    """Decide, then build. Wishes with equal plans get one engine; a damaged int8 file that nobody asked for is said.

    Raises:
        ConfigError, MissingExtraError, WeightsError: as `Engines.open`.
    """
    plan = choose_plan(source, wish)
    try:
        engine: Engine = source.made.get(plan, lambda: build_engine(source, plan))
        return engine
    except WeightsError as error:
        if plan.int8 is None or wish.precision != AUTO:
            raise
        refuse_int8(source, plan.int8, plan.runtime, error)
        return open_engine(source, wish)


def build_engine(source: Source, plan: Plan) -> Engine:
    """The engine of a plan.

    Raises:
        WeightsError: the weights, or the int8 file, cannot be read or converted.
    """
    file = source.file
    if file is None:
        return RUNTIMES.get(plan.runtime).open(source, plan)
    if file.info.level != "raw" or plan.runtime not in file.backends:
        return FileEngine(open_file(file), file)
    try:
        return FileEngine(RUNTIMES.get(plan.runtime).open(source, plan), file)
    except WeightsError as error:
        if plan.int8 or str(file.path) in str(error):
            raise
        raise unreadable(file.path, error) from error
