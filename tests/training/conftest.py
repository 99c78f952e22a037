"""Trainers made of fakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_fakes import BATCH, IMAGES, FileStore, RandomBatches, tiny_loss, tiny_network

from singleshot.core.settings import PreprocessConfig
from singleshot.images.normalise import ImageNormalizer
from singleshot.training.checkpoint import Learner, load_checkpoint
from singleshot.training.ema import Ema
from singleshot.training.guards import LossGuard
from singleshot.training.loop import Trainer
from singleshot.training.optimizer import build_optimizer
from singleshot.training.optimizer_config import OptimizerConfig, ScheduleConfig
from singleshot.training.parts import Intervals
from singleshot.training.schedule import RunLength

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """A trainer of the tiny network; ``resume`` continues from the state in the test's folder."""

    def make(
        *,
        epochs: float = 4,
        resume: bool = False,
        optimizer: OptimizerConfig | None = None,
        guard: LossGuard | None = None,
        scaler: torch.amp.GradScaler | None = None,
        **options: Any,
    ) -> Trainer:
        optimizer = optimizer or OptimizerConfig(name="sgd", lr=0.05)
        network = tiny_network()
        learner = Learner(network, build_optimizer(network, optimizer, float(optimizer.lr)), Ema(network, 0.9), scaler)
        accumulate = options.get("accumulate", 1)
        trainer = Trainer(
            **{
                "learner": learner,
                "criterion": tiny_loss,
                "batches": RandomBatches(),
                "normalizer": ImageNormalizer(PreprocessConfig(size_hw=(16, 16)), torch.device("cpu")),
                "length": RunLength("epochs", epochs, IMAGES / BATCH / accumulate),
                "schedule": ScheduleConfig(kind="cosine", warmup_steps=3),
                "guard": guard or LossGuard(lambda index: f"{index}.jpg"),
                "store": FileStore(tmp_path),
                "intervals": Intervals(log=2),
            }
            | options
        )
        if resume:
            trainer.run = load_checkpoint(tmp_path / "state.pt", learner)
        return trainer

    return make
