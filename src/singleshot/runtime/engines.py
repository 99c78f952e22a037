"""The network of one detector and the engines that run it, each made once, from any thread."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singleshot.core.once import ForkSafeLock, away_from_fork
from singleshot.kernels import prepare
from singleshot.models.config import ModelSpec
from singleshot.runtime.choose import Source, Wish, open_engine

if TYPE_CHECKING:
    from torch import Tensor

    from singleshot.models.network import Network
    from singleshot.runtime.base import Engine
    from singleshot.runtime.changes import Watch


class Engines:
    """What runs a detector.

    Pickling and copying take the weights, or the network where the user holds it, and leave the engines. A forked child
    makes its own: those of its parent need threads that do not exist in it.

    Args:
        spec: everything besides the numbers.
        weights: the network's state, or a weights file that holds it (read when it is first needed).
    """

    def __init__(self, spec: ModelSpec, weights: Mapping[str, Tensor] | Path) -> None:
        self.spec = spec
        self.weights = weights
        self._network: Network | None = None
        self._is_shared = False
        self._is_changed = False
        self._start()

    def _start(self) -> None:
        self._lock = ForkSafeLock()
        self._pid = os.getpid()
        self._source: Source | None = None
        self._watch: Watch | None = None

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            self._note_changes()
            return {
                "spec": self.spec,
                "weights": self.weights.absolute() if isinstance(self.weights, Path) else self.weights,
                "_network": self._network if self._is_shared else None,
                "_is_shared": self._is_shared,
                "_is_changed": self._is_changed,
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def network(self, shared: bool = False) -> Network:
        """The torch module, in eval mode on the CPU.

        Args:
            shared: whether the user gets it, who may change it.

        Raises:
            WeightsError: the weights are damaged or do not fit.
        """
        with self._lock:
            if self._network is None:
                self._network = away_from_fork(self._build)
            if shared and not self._is_shared:
                self._is_shared = True
                self._note_changes()
            return self._network

    def open(self, wish: Wish) -> Engine:
        """The engine for a wish, of the network as it is now."""
        prepare()
        return open_engine(self._current(), wish)

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
                weights = self.weights if isinstance(self.weights, Path) and not self._is_changed else None
                self._source = Source(self.spec, weights, self._copy)
            return self._source

    def _note_changes(self) -> None:
        """Look whether the user, if he holds the network, has changed it: then older engines are not what to run."""
        if not self._is_shared or self._network is None:
            return
        from singleshot.runtime.changes import Watch

        if self._watch is None:
            self._watch = Watch(self._network)
        elif self._watch.has_changed(self._network):
            self._watch, self._source, self._is_changed = Watch(self._network), None, True

    def _copy(self) -> Network:
        from singleshot.runtime.fold import eval_copy

        return eval_copy(self.network())

    def _build(self) -> Network:
        from singleshot.weights.file import read_state
        from singleshot.weights.network import load_network

        if isinstance(self.weights, Path):
            return load_network(self.spec, read_state(self.weights), self.weights)
        return load_network(self.spec, self.weights)
