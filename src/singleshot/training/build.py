"""From what a run has decided to a trainer: the only place that reads all settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from singleshot.augment.pipeline import Augmenter
from singleshot.core.boxes import cxcywh_to_xyxy
from singleshot.core.settings import CoderConfig, SizeHW
from singleshot.core.structures import Batch, HeadOutput, RefineOutput
from singleshot.images.normalise import ImageNormalizer
from singleshot.interop.mxnet.training_graph import label_rows, monitored_losses
from singleshot.models.fast_conv.small_maps import has_small_maps
from singleshot.models.shared_norm import SharedBatchNorm2d, share_norms
from singleshot.multibox.loss import multibox_loss
from singleshot.multibox.refine import refine_loss
from singleshot.training.checkpoint import Learner, RunState
from singleshot.training.config import TrainConfig
from singleshot.training.ema import Ema
from singleshot.training.guards import LossGuard
from singleshot.training.held_out import HeldOut
from singleshot.training.loader import TrainLoader
from singleshot.training.loader_config import LoaderConfig
from singleshot.training.loop import Trainer
from singleshot.training.optimizer import build_optimizer, set_norm_momentum, still_norms
from singleshot.training.parts import Criterion, Intervals, Store
from singleshot.training.precision import precision_of
from singleshot.training.schedule import RunLength
from singleshot.training.setup import Setup
from singleshot.training.world import ALONE, World

# On an accelerator a look at the loss waits for the device.
GUARD_EVERY = 16


def build_trainer(
    setup: Setup, loader: TrainLoader, store: Store, held_out: HeldOut | None, world: World = ALONE
) -> Trainer:
    """Put the parts of a run together.

    Args:
        setup: what was decided; the network is moved to its device and changed in place.
        loader: the training batches.
        store: where weights and state go.
        held_out: measures the network now and then.
        world: the processes that learn together.
    """
    config, device, spec = setup.config, setup.device, setup.start.spec
    assert isinstance(config.batch_size, int)
    assert isinstance(config.optimizer.lr, float)
    assert config.amp != "auto"
    assert config.evaluation.every != "auto"
    assert config.evaluation.share != "auto"
    assert config.evaluation.patience != "auto"
    torch.manual_seed(config.seed)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    network = setup.start.network.to(device, memory_format=layout)  # type: ignore[call-overload]
    set_norm_momentum(network, config.batch_norm_momentum)
    still = [*still_norms(network, config.batch_norm), *setup.single_norms]
    if world.size > 1 and config.sync_batch_norm is True:
        share_norms(network, world, still)
    learner = Learner(
        network,
        build_optimizer(network, config.optimizer, config.optimizer.lr),
        Ema(network, config.ema.decay) if config.ema else None,
        torch.amp.GradScaler(device.type) if config.amp == "fp16" else None,
    )
    paths = [str(sample.image_path) for sample in setup.samples]
    return Trainer(
        learner=learner,
        criterion=criterion(setup.anchors_cxcywh.to(device), spec.coder, config, spec.preprocess.size_hw, world),
        batches=loader,
        normalizer=ImageNormalizer(spec.preprocess, device, config.channels_last),
        length=RunLength(*config.length, loader.images_per_epoch / (config.batch_size * config.accumulate)),
        schedule=config.schedule,
        guard=LossGuard(paths.__getitem__, 1 if device.type == "cpu" else GUARD_EVERY, world),
        store=store,
        intervals=Intervals(
            config.log_every,
            config.evaluation.every,
            config.save_minutes * 60,
            config.evaluation.share,
            config.checkpoints.every or 0.0,
        ),
        evaluate=held_out.measure if held_out else None,
        held_out=len(held_out.images) if held_out else 0,
        metric=config.evaluation.metric,
        patience=config.evaluation.patience,
        tolerance=_tolerance(config, held_out),
        min_delta=config.evaluation.min_delta,
        precision=precision_of(config.amp, config.compile, has_small_maps(network, spec.preprocess.size_hw)),
        accumulate=config.accumulate,
        clip_norm=config.optimizer.clip_norm,
        still=still,
        run=RunState(step=config.start_step, first_step=config.start_step),
        compiled=torch.compile(network) if config.compile else None,  # type: ignore[arg-type]
        world=world,
        own_statistics=_own_statistics(learner),
    )


def _tolerance(config: TrainConfig, held_out: HeldOut | None) -> float:
    """Between what evaluations there is no difference; about a standard error of that of two in a row."""
    wanted = config.evaluation.tolerance
    if wanted != "auto":
        return wanted
    return 0.1 / math.sqrt(max(len(held_out.images), 1)) if held_out else 0.0


def _own_statistics(learner: Learner) -> list[Tensor]:
    """Running statistics that are not shared by all processes, of the network and of its average."""
    networks = [learner.network, *([learner.ema.network] if learner.ema else [])]
    norms = [m for n in networks for m in n.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    own = [norm for norm in norms if not isinstance(norm, SharedBatchNorm2d)]
    return [t for norm in own for t in (norm.running_mean, norm.running_var) if t is not None]


def build_loader(setup: Setup, world: World = ALONE) -> TrainLoader:
    """The training batches of a run, or a process's parts of them."""
    config = setup.config
    assert isinstance(config.batch_size, int)
    return TrainLoader(
        setup.samples,
        Augmenter(config.augment, setup.start.spec.preprocess.size_hw),
        LoaderConfig(
            batch_size=config.batch_size,
            seed=config.seed,
            workers=config.workers,
            keep_empty=config.keep_empty,
            empty=config.tiling.empty if config.tiling else None,
            use_difficult=config.use_difficult,
            repeat_threshold=config.repeat_threshold,
            classes=len(setup.train_set.class_map),
            pin_memory=setup.device.type == "cuda",
            world=world,
        ),
    )


def criterion(
    anchors_cxcywh: Tensor, coder: CoderConfig, config: TrainConfig, size_hw: SizeHW, world: World = ALONE
) -> Criterion:
    """The loss of a detector: one step or two, whatever its heads are.

    Args:
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]``, on the network's device.
        coder: how codes relate to boxes.
        config: how anchors are matched, what is weighed, and what is logged besides.
        size_hw: network input.
        world: the processes that learn together: each has its share of every loss.
    """
    anchors_xyxy = cxcywh_to_xyxy(anchors_cxcywh) / anchors_cxcywh.new_tensor([*size_hw[::-1], *size_hw[::-1]])

    def loss(output: HeadOutput | RefineOutput, batch: Batch) -> Mapping[str, Tensor]:
        objects = batch.boxes_xyxy, batch.class_ids, batch.valid
        dialect: dict[str, Any] = {"coder": coder, "match": config.match, "loss": config.loss, "sum_counts": world.sum}
        if isinstance(output, RefineOutput):
            return refine_loss(output, anchors_cxcywh, *objects, **dialect)
        losses = multibox_loss(output, anchors_cxcywh, *objects, **dialect)
        if config.also_log != "mxnet":
            return losses
        also = monitored_losses(output, anchors_xyxy, label_rows(*objects, size_hw), coder.variances)
        return {**losses, **{f"mxnet_{name}": value / world.size for name, value in also.items()}}

    return loss
