"""What a run decides and computes before its first step, once: nothing later asks again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from singleshot.core.structures import Sample
from singleshot.core.wording import counted
from singleshot.data import DetectionDataset
from singleshot.errors import ConfigError
from singleshot.models.backbone import LayeredBackbone
from singleshot.models.build import build_anchors
from singleshot.models.fast_conv.small_maps import single_norms
from singleshot.models.fast_conv.training import winograd_share
from singleshot.training.batch_size import choose_batch
from singleshot.training.config import TrainConfig
from singleshot.training.optimizer import LearningRate, freeze_parts, has_batch_norm, learning_rate, lr_factors
from singleshot.training.part_names import original_names
from singleshot.training.precision import choose_amp
from singleshot.training.start import Start
from singleshot.training.tiling import Tiled
from singleshot.training.world import ALONE, World

# So many evaluations a run, but no more than one an epoch.
AUTO_EVALUATIONS = 10
EVALUATION_SHARE = 0.15

EARLY_STRIDE = 4

# Statistics of fewer images are poor.
FEW_IMAGES = 16

# What ends a run that no longer improves: half of its evaluations, but not so few that chance decides.
STALE_SHARE = 0.5
LEAST_PATIENCE = 5
# A run of so many minutes takes the time that it was given.
SHORT_MINUTES = 60


@dataclass(frozen=True, slots=True)
class Setup:
    """A run that can begin.

    Attributes:
        asked: the settings as given.
        config: the same without ``auto``.
        start: the detector that learns, and where its numbers come from; frozen parts are so already.
        device: where the network will run.
        train_set, val_set: the data; ``val_set`` is ``None`` where nothing is measured.
        tiled: the tiles to learn from, where ``tiling`` asks for some.
        anchors_cxcywh: default boxes in pixels of the network input, ``[A, 4]``, on the CPU.
        rate: the learning rate, and how it came about.
        frozen: names of the parameters that do not learn.
        single_norms: BatchNorm layers that a batch of one image cannot teach.
    """

    asked: TrainConfig
    config: TrainConfig
    start: Start
    device: torch.device
    train_set: DetectionDataset
    val_set: DetectionDataset | None
    tiled: Tiled | None
    anchors_cxcywh: Tensor
    rate: LearningRate
    frozen: Sequence[str]
    single_norms: Sequence[nn.Module]

    @property
    def samples(self) -> Sequence[Sample]:
        """What is learnt from: the images, or these and their tiles."""
        return self.tiled.samples if self.tiled else self.train_set.samples


def prepare(
    asked: TrainConfig,
    start: Start,
    train_set: DetectionDataset,
    val_set: DetectionDataset | None,
    device: torch.device,
    tiled: Tiled | None = None,
    world: World = ALONE,
) -> Setup:
    """Decide what ``auto`` means here, freeze what stays as it is, and compute what every step needs.

    Args:
        asked: the settings as given.
        start: the detector that learns; parts of its network are frozen in place.
        train_set, val_set: the data.
        device: where the network will run.
        tiled: the tiles of ``train_set``, where tiles are learnt from.
        world: the processes that learn together.

    Raises:
        ConfigError: a setting does not fit the network or the device.
    """
    network, size_hw = start.network, start.spec.preprocess.size_hw
    if asked.also_log and network.objectness_head is not None:
        raise ConfigError(
            f"also_log: {asked.also_log} has no two-step detectors such as {start.spec.name}: leave it out"
        )
    if asked.match.assign != "anchors" and network.objectness_head is not None:
        raise ConfigError(
            f"match.assign: {asked.match.assign} is not for two-step detectors such as {start.spec.name}: leave it out"
        )
    settled = asked.updated({"freeze": early_layers(start, device)}) if asked.freeze == "auto" else asked
    frozen = _freeze(settled, start)
    images = tiled.per_epoch if tiled else len(train_set)
    batch = _batch_size(asked, start, device, images, world)
    is_shared = _shares_norms(asked, batch, world)
    mirror = asked.augment.settled(train_set.class_map.names).mirror
    settled = _settled(settled, start, frozen).updated({"augment.mirror": mirror})
    if world.size > 1:
        settled = settled.updated({"sync_batch_norm": is_shared})
    rate = learning_rate(asked.optimizer, batch * asked.accumulate, has_batch_norm(network))
    new_classes = len(start.report.new_classes) if start.report.by_class else 0
    factors = lr_factors(asked.optimizer, new_classes)
    settled = settled.updated({"optimizer.lr_factors": factors})
    if factors and asked.optimizer.lr_factors == "auto":
        head = f"{factors['head']:g} times that in the head, for its {new_classes} new classes"
        rate = rate._replace(reason=f"{rate.reason}; {head} (`optimizer.lr_factors={{}}`: not)")
    return Setup(
        asked=asked,
        config=_without_auto(settled, start, images, device, batch, rate.value, math.ceil(batch / world.size)),
        start=start,
        device=device,
        train_set=train_set,
        val_set=val_set,
        tiled=tiled,
        anchors_cxcywh=build_anchors(start.spec, network),
        rate=rate,
        frozen=frozen,
        single_norms=single_norms(network, size_hw, batch if is_shared else batch // world.size),
    )


def _batch_size(asked: TrainConfig, start: Start, device: torch.device, images: int, world: World) -> int:
    """Images of a forward of all devices together: ``auto`` gives each device what fits the first one's memory."""
    if asked.batch_size == "auto":
        size_hw, share = start.spec.preprocess.size_hw, images // world.size
        each = choose_batch(start.network, size_hw, device, share, world.local_size)
        return world.first(each) * world.size
    if asked.batch_size < world.size:
        raise ConfigError(
            f"batch_size: {counted(asked.batch_size, 'image')} cannot be shared by {world.size} devices: give "
            f"`batch_size={2 * world.size}`, or fewer `devices`"
        )
    return asked.batch_size


def _shares_norms(asked: TrainConfig, batch: int, world: World) -> bool:
    """Whether BatchNorm sees the images of all devices."""
    if world.size > 1 and asked.sync_batch_norm is True and asked.compile:
        raise ConfigError("sync_batch_norm: it cannot be compiled: leave `compile` out, or `sync_batch_norm=False`")
    has_few = batch < FEW_IMAGES * world.size and not asked.compile
    return world.size > 1 and (has_few if asked.sync_batch_norm == "auto" else asked.sync_batch_norm)


def early_layers(start: Start, device: torch.device) -> list[str]:
    """What ``freeze: auto`` keeps as it is: on a CPU, the learnt layers before maps of stride 8.

    They know edges and textures of any photo, and half of a step's time is theirs. Networks without BatchNorm learn
    whole.
    """
    backbone = start.network.backbone
    if device.type != "cpu" or not isinstance(backbone, LayeredBackbone) or not has_batch_norm(start.network):
        return []
    layers = backbone.layers_up_to(EARLY_STRIDE)
    own = {
        name: [f"backbone.{name}.{p}" for p, _ in backbone.get_submodule(name).named_parameters()] for name in layers
    }
    are_learnt = set(start.report.loaded).issuperset(chain.from_iterable(own.values()))
    return [f"backbone.{name}" for name in layers if own[name]] if are_learnt else []


def _freeze(asked: TrainConfig, start: Start) -> list[str]:
    """Stop from learning what shall not; its names."""
    assert asked.freeze != "auto"
    names = [name for name, _ in start.network.named_parameters()]
    taken_over = start.report.loaded if asked.finetune else ()
    if asked.finetune and not start.report.origin:
        raise ConfigError("finetune: nothing is taken over from `weights='none'`: name a weights file, or leave it out")
    return freeze_parts(start.network, asked.freeze, original_names(start.spec, names), taken_over)


def _settled(asked: TrainConfig, start: Start, frozen: Sequence[str]) -> TrainConfig:
    """With ``freeze`` in place of ``finetune``: a resumed run has taken everything over."""
    if not asked.finetune:
        return asked
    names = [name for name, _ in start.network.named_parameters()]
    whole = {name.partition(".")[0] for name in names} - {n.partition(".")[0] for n in names if n not in set(frozen)}
    single = [name for name in frozen if name.partition(".")[0] not in whole]
    return asked.updated({"finetune": False, "freeze": [*sorted(whole), *single]})


def _without_auto(
    config: TrainConfig, start: Start, images: int, device: torch.device, batch: int, rate: float, measured: int
) -> TrainConfig:
    """Every ``auto`` replaced by what it means here, so that the run's settings say what was done."""
    epoch = {"epochs": 1.0, "steps": images / (batch * config.accumulate), "minutes": 0.0}[config.length[0]]
    asked, asked_batch = config.evaluation.every, config.evaluation.batch_size
    every = max(config.length[1] / AUTO_EVALUATIONS, epoch) if asked == "auto" else asked
    is_plain_cpu = device.type == "cpu" and config.amp == "auto" and not config.compile
    share = winograd_share(start.network, start.spec.preprocess.size_hw) if is_plain_cpu else 0.0
    return config.updated(
        {
            "batch_size": batch,
            "optimizer.lr": rate,
            "optimizer.lr_batch": None,
            "evaluation.every": every,
            "evaluation.share": share_of_time(config),
            "evaluation.patience": patience_of(config, every),
            "checkpoints.every": _distance_of_checkpoints(config, every),
            "anchors": start.spec.anchors.model_dump(mode="json") if config.anchors or config.anchor_scale else None,
            "anchor_scale": None,
            "evaluation.batch_size": measured if asked_batch == "auto" else asked_batch,
            "amp": choose_amp(config.amp, device, share),
        }
    )


def patience_of(config: TrainConfig, every: float) -> int | None:
    """Evaluations without a better number before the run stops; ``None`` never stops early.

    Args:
        config: the settings as given.
        every: distance of evaluations, without ``auto``.
    """
    if config.evaluation.patience != "auto":
        return config.evaluation.patience
    unit, length = config.length
    has_own_end = config.reference is not None or config.schedule.milestones
    if has_own_end or not every or (unit == "minutes" and length < SHORT_MINUTES):
        return None
    patience = max(math.ceil(STALE_SHARE * length / every), LEAST_PATIENCE)
    return patience if patience < length / every - 1 else None


def _distance_of_checkpoints(config: TrainConfig, every: float) -> float | None:
    """Of numbered ones: as asked for; where only ``keep`` is, that of the evaluations."""
    asked = config.checkpoints
    if asked.every is None and asked.keep is not None and not every:
        raise ConfigError(
            "checkpoints.keep: says how many numbered checkpoints stay, but nothing says how often one is made: give "
            "`checkpoints.every=5`"
        )
    return every if asked.every is None and asked.keep is not None else asked.every


def share_of_time(config: TrainConfig) -> float:
    """Most of the time that evaluations before the last may take; who says how often they are gets them."""
    if config.evaluation.share != "auto":
        return config.evaluation.share
    return EVALUATION_SHARE if config.evaluation.every == "auto" else 1.0
