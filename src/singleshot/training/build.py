"""From settings to a trainer: the only place of the engine that reads them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from singleshot.augment.pipeline import Augmenter
from singleshot.core.structures import Batch, HeadOutput, RefineOutput
from singleshot.data import DetectionDataset
from singleshot.errors import ConfigError
from singleshot.evaluation.evaluate import evaluate_network
from singleshot.evaluation.result import EvalResult
from singleshot.models.build import build_anchors
from singleshot.models.config import ModelSpec
from singleshot.models.fast_conv.small_maps import has_small_maps, single_norms
from singleshot.models.fast_conv.training import winograd_share
from singleshot.models.network import Network
from singleshot.multibox.loss import multibox_loss
from singleshot.multibox.refine import refine_loss
from singleshot.training.auto import choose_amp, choose_batch, precision_of
from singleshot.training.checkpoint import Learner
from singleshot.training.config import TrainConfig
from singleshot.training.ema import Ema
from singleshot.training.guards import LossGuard
from singleshot.training.loader import LoaderConfig, TrainLoader
from singleshot.training.logs import EvaluationRecord, StepRecord
from singleshot.training.loop import Criterion, ImageNormalizer, Intervals, Store, Trainer
from singleshot.training.optimizer import build_optimizer, has_batch_norm, learning_rate, set_norm_momentum, still_norms
from singleshot.training.schedule import RunLength
from singleshot.training.start import Start
from singleshot.weights.file import load_state, read_state

# On an accelerator a look at the loss waits for the device.
GUARD_EVERY = 16
# So many a run, but no more than one an epoch.
AUTO_EVALUATIONS = 10
EVALUATION_SHARE = 0.15


def resolve(config: TrainConfig, start: Start, images: int, device: torch.device) -> TrainConfig:
    """Replace every ``auto`` by what it means here, so that the run's settings say what was done.

    Args:
        config: as the user gave it.
        start: the detector that learns.
        images: of the training data.
        device: where it will run.
    """
    batch = config.batch
    if batch == "auto":
        batch = choose_batch(start.network, start.spec.preprocess.size_hw, device, images)
    has_norm = has_batch_norm(start.network)
    every = config.evaluation.every
    if every == "auto":
        epoch = {"epochs": 1.0, "steps": images / (batch * config.accumulate), "minutes": 0.0}[config.length[0]]
        every = max(config.length[1] / AUTO_EVALUATIONS, epoch)
    is_plain_cpu = device.type == "cpu" and config.amp == "auto" and not config.compile
    share = winograd_share(start.network, start.spec.preprocess.size_hw) if is_plain_cpu else 0.0
    return config.updated(
        {
            "batch": batch,
            "optimizer.lr": learning_rate(config.optimizer, batch * config.accumulate, has_norm).value,
            "optimizer.lr_batch": None,
            "evaluation.every": every,
            "evaluation.share": share_of_time(config),
            "anchors": start.spec.anchors.model_dump(mode="json") if config.anchors or config.anchor_scale else None,
            "anchor_scale": None,
            "evaluation.batch": batch if config.evaluation.batch == "auto" else config.evaluation.batch,
            "amp": choose_amp(config.amp, device, share),
        }
    )


def share_of_time(config: TrainConfig) -> float:
    """Most of the time that evaluations before the last may take; who says how often they are gets them."""
    if config.evaluation.share != "auto":
        return config.evaluation.share
    return EVALUATION_SHARE if config.evaluation.every == "auto" else 1.0


def build_trainer(
    config: TrainConfig,
    start: Start,
    train_set: DetectionDataset,
    store: Store,
    device: torch.device,
    evaluation: Evaluation | None,
) -> Trainer:
    """Put the parts of a run together.

    Args:
        config: settings without ``auto``.
        start: the detector that learns, its frozen parts already so; moved to ``device`` and changed in place.
        train_set: what to learn from.
        store: where weights and state go.
        device: where the network runs.
        evaluation: measures the network now and then.
    """
    assert isinstance(config.batch, int)
    assert isinstance(config.optimizer.lr, float)
    assert config.amp != "auto"
    assert config.evaluation.every != "auto"
    assert config.evaluation.share != "auto"
    torch.manual_seed(config.seed)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    network = start.network.to(device, memory_format=layout)  # type: ignore[call-overload]
    set_norm_momentum(network, config.batch_norm_momentum)
    size_hw = start.spec.preprocess.size_hw
    loader = TrainLoader(
        train_set.samples,
        Augmenter(config.augment, size_hw),
        LoaderConfig(
            batch_size=config.batch,
            seed=config.seed,
            workers=config.workers,
            keep_empty=config.keep_empty,
            use_difficult=config.use_difficult,
            repeat_threshold=config.repeat_threshold,
            pin_memory=device.type == "cuda",
        ),
    )
    learner = Learner(
        network,
        build_optimizer(network, config.optimizer, config.optimizer.lr),
        Ema(network, config.ema.decay) if config.ema else None,
        torch.amp.GradScaler(device.type) if config.amp == "fp16" else None,
    )
    paths = [str(sample.image_path) for sample in train_set]
    return Trainer(
        learner=learner,
        criterion=criterion(start.spec, network, config, device),
        batches=loader,
        normalizer=ImageNormalizer(start.spec.preprocess, device, config.channels_last),
        length=RunLength(*config.length, loader.images_per_epoch / (config.batch * config.accumulate)),
        schedule=config.schedule,
        guard=LossGuard(paths.__getitem__, 1 if device.type == "cpu" else GUARD_EVERY),
        store=store,
        intervals=Intervals(
            config.log_every, config.evaluation.every, config.save_minutes * 60, config.evaluation.share
        ),
        evaluate=evaluation,
        held_out=evaluation.images if evaluation else 0,
        metric=config.evaluation.metric,
        patience=config.evaluation.patience,
        precision=precision_of(config.amp, config.compile, has_small_maps(network, size_hw)),
        accumulate=config.accumulate,
        clip_norm=config.optimizer.clip_norm,
        still=[*still_norms(network, config.batch_norm), *single_norms(network, size_hw, config.batch)],
        compiled=torch.compile(network) if config.compile else None,
    )


def criterion(spec: ModelSpec, network: Network, config: TrainConfig, device: torch.device) -> Criterion:
    """The loss of a detector: one step or two, whatever its heads are."""
    anchors = build_anchors(spec, network).to(device)

    def loss(output: HeadOutput | RefineOutput, batch: Batch) -> Mapping[str, Tensor]:
        objects = batch.boxes_xyxy, batch.class_ids, batch.valid
        if isinstance(output, RefineOutput):
            return refine_loss(output, anchors, *objects, coder=spec.coder, match=config.match, loss=config.loss)
        return multibox_loss(output, anchors, *objects, coder=spec.coder, match=config.match, loss=config.loss)

    return loss


class Evaluation:
    """Measures the network on held-out images and remembers the best result; an observer of the run.

    Args:
        spec: what belongs to the network.
        val_set: the held-out images.
        config: the deciding metric and the batch.
    """

    def __init__(self, spec: ModelSpec, val_set: DetectionDataset, config: TrainConfig) -> None:
        assert isinstance(config.evaluation.batch, int)
        self._spec = spec
        self._val_set = val_set
        self._batch = config.evaluation.batch
        self._metric = config.evaluation.metric
        self._latest: EvalResult | None = None
        self.best: EvalResult | None = None

    @property
    def images(self) -> int:
        """Held-out images."""
        return len(self._val_set)

    @property
    def objects(self) -> int:
        """Held-out objects that count."""
        return sum(int((~sample.iscrowd).sum()) for sample in self._val_set)

    def __call__(self, network: nn.Module) -> Mapping[str, float]:
        """Numbers by name.

        Raises:
            ConfigError: the deciding metric is not among them.
        """
        assert isinstance(network, Network)
        self._latest = evaluate_network(network, self._spec, self._val_set, batch_size=self._batch)
        numbers = self._latest.summary
        if self._metric not in numbers:
            raise ConfigError(f"evaluation.metric: no '{self._metric}'; there are {', '.join(numbers)}")
        return numbers

    def on_step(self, record: StepRecord) -> None:
        """Nothing."""

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Keep the result if the loop, which alone knows, calls it the best."""
        if record.best:
            self.best = self._latest

    def close(self) -> None:
        """Nothing."""

    def of_file(self, path: Path, network: nn.Module) -> EvalResult:
        """The result of a weights file.

        Args:
            path: the file.
            network: of the same kind; gets its numbers.
        """
        assert isinstance(network, Network)
        load_state(network, read_state(path), path)
        return evaluate_network(network.eval(), self._spec, self._val_set, batch_size=self._batch)
