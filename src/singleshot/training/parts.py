"""What a trainer is given: a loss, batches, a place to keep what was learnt, and how often things happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

from singleshot.core.structures import Batch, HeadOutput, RefineOutput
from singleshot.training.checkpoint import Learner, RunState

Criterion = Callable[[HeadOutput | RefineOutput, Batch], Mapping[str, Tensor]]
"""Outputs and a batch to named losses, ``total`` among them."""


class BatchStream(Protocol):
    """Training batches without end, in an order that is a function of a seed."""

    @property
    def images_per_epoch(self) -> int:
        """Images of the data set."""

    @property
    def batch_size(self) -> int:
        """Images of each batch, of all processes together."""

    def stream(self, first_batch: int) -> Iterator[Batch]:
        """This process's parts of the batches from the ``first_batch``-th on.

        Their content does not depend on where the stream begins.
        """


class Store(Protocol):
    """Where a run keeps what it has learnt."""

    def save_state(self, learner: Learner, run: RunState) -> None:
        """Keep everything that a resumed run needs."""

    def save_numbered(self, learner: Learner, run: RunState) -> None:
        """Keep both under the number of the step."""

    def save_weights(self, name: Literal["best", "last"], network: nn.Module, metrics: Mapping[str, float]) -> None:
        """Keep a network that can be used."""


class Monitor(Protocol):
    """Looks at weights and gradients now and then."""

    every: int

    def note(self, step: int) -> None:
        """Called with the gradients of ``step`` in place, before they change the weights."""


class NoStore:
    """The store of a process that writes nothing, because another one does."""

    def save_state(self, learner: Learner, run: RunState) -> None:
        """Nothing."""

    def save_numbered(self, learner: Learner, run: RunState) -> None:
        """Nothing."""

    def save_weights(self, name: Literal["best", "last"], network: nn.Module, metrics: Mapping[str, float]) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often things happen.

    Attributes:
        log: optimiser steps between two records.
        evaluate: distance of evaluations in the unit of the run's length; 0 evaluates only at the end.
        save_s: seconds between two saves of the state.
        checkpoint: distance of numbered checkpoints in the unit of the run's length; 0 makes none.
        evaluation_share: most of the run's time that evaluations before the last may take; those beyond it wait.
    """

    log: int = 20
    evaluate: float = 0.0
    save_s: float = 120.0
    evaluation_share: float = 1.0
    checkpoint: float = 0.0
