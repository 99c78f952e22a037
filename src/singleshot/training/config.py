"""The settings of a training run: one frozen, validated record. No torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from singleshot.augment.config import AugmentConfig, parse_augment, preset
from singleshot.core.setting_errors import explain_settings
from singleshot.core.settings import AnchorConfig, Frozen, LossConfig, MatchConfig, SizeHW, UnitFloat
from singleshot.core.sizes import parse_batch_size
from singleshot.errors import ConfigError
from singleshot.training.data_config import DataConfig, Reference, TilingConfig
from singleshot.training.optimizer_config import (
    EmaConfig,
    NonNegative,
    OptimizerConfig,
    PositiveFloat,
    PositiveInt,
    ScheduleConfig,
)
from singleshot.training.registry import LOGGERS

BatchSize = Annotated[int | Literal["auto"], BeforeValidator(lambda value: parse_batch_size(value, auto=True))]
Unit = Literal["epochs", "steps", "minutes"]
_log = logging.getLogger(__name__)

DEFAULT_EPOCHS = 50.0
MAX_DESCRIPTION = 200_000


class CheckpointConfig(Frozen):
    """Numbered checkpoints beside the best and the last one: weights, and the state that ``resume=500`` goes back to.

    Attributes:
        every: their distance in the unit of the run's length; ``None`` makes one with each evaluation where ``keep`` is
            given, else none.
        keep: so many of the latest stay; ``None`` keeps all.
    """

    every: PositiveFloat | None = None
    keep: PositiveInt | None = None


def _parts(names: Any) -> Any:
    """A name alone is a list of one; ``auto`` and ``none`` may stand in the command line's list."""
    names = [names] if isinstance(names, str) else names
    if names == ["auto"]:
        return "auto"
    return () if names == ["none"] else names


def _metric_name(name: Any) -> Any:
    """COCO's numbers may be named without their prefix."""
    return f"coco_{name}" if isinstance(name, str) and name.startswith(("AP", "AR")) else name


def _logger_names(names: Any) -> Any:
    """``tensorboard,wandb`` is both. ``csv``, which is always written, may be named."""
    words = [word.strip() for word in names.split(",")] if isinstance(names, str) else names
    return [word for word in dict.fromkeys(words) if word not in ("csv", "")] if isinstance(words, list) else words


def _bounded(description: Any) -> Any:
    """A few lines of YAML can name a value of gigabytes; no detector has so many settings."""
    waiting = [description]
    for _ in range(MAX_DESCRIPTION):
        if not waiting:
            return description
        item = waiting.pop()
        waiting += item.values() if isinstance(item, Mapping) else item if isinstance(item, (list, tuple)) else ()
    raise ValueError(f"describes more than {MAX_DESCRIPTION:,} settings; no detector has so many")


def renamed(data: Any, old: str, new: str) -> Any:
    """Settings with the name that one of them has now; says so. Files of version 0.1 have the old one."""
    if not isinstance(data, Mapping) or old not in data:
        return data
    _log.warning("the setting '%s' is called '%s' now", old, new)
    return {**{key: value for key, value in data.items() if key != old}, new: data[old]}


class EvaluationConfig(Frozen):
    """Evaluation during training.

    Attributes:
        every: distance of evaluations in the unit of the run's length; ``auto`` makes about ten, ``0`` only the last.
        share: most of the time that evaluations before the last may take; those beyond it are put off. ``auto`` is
            0.15 where ``every`` is ``auto``, else 1.
        metric: which number decides the best checkpoint and early stopping: ``coco_AP`` (or ``AP``), ``voc_area`` ...
            Evaluations before the end of the warm-up do not count.
        tolerance: a later evaluation that is lower than the highest by at most this is the best: it has learnt more,
            and the difference is chance. ``auto`` is ``0.1 / sqrt(images)``, what another choice of the held-out images
            changes between two neighbouring evaluations; ``0`` goes by the number alone, equal ones to the later.
        patience: evaluations without a better number before the run stops; ``None`` never stops early. ``auto`` is
            half of the run's, at least 5; but ``None`` in runs that follow a published recipe or have milestones, whose
            last drop comes late, and in those of less than an hour given by ``minutes``.
        min_delta: a number counts as better for ``patience`` if it is higher by more than this.
        batch_size: images per forward of the evaluation; ``auto`` takes a device's training batch.
        nms_iou, agnostic, max_detections, top_k, iou, strict, use_difficult: as `singleshot.evaluate` has them; they
            change what is measured, not the detector.
    """

    every: NonNegative | Literal["auto"] = "auto"
    share: UnitFloat | Literal["auto"] = "auto"
    metric: Annotated[str, BeforeValidator(_metric_name)] = "coco_AP"
    tolerance: NonNegative | Literal["auto"] = "auto"
    patience: PositiveInt | Literal["auto"] | None = "auto"
    min_delta: NonNegative = 0.0
    batch_size: BatchSize = "auto"
    nms_iou: UnitFloat | None = None
    agnostic: bool = False
    max_detections: PositiveInt | None = None
    top_k: PositiveInt | None = None
    iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    strict: bool = False
    use_difficult: bool = False

    @model_validator(mode="before")
    @classmethod
    def _names_of_today(cls, data: Any) -> Any:
        return renamed(data, "batch", "batch_size")


class TrainConfig(Frozen):
    """Everything that decides a training run.

    Attributes:
        data: what to learn from.
        model: the architecture: a catalogue name, a YAML file that describes a detector, or such a description itself
            (`singleshot.models.description`); ``None`` keeps the one of ``weights``.
        weights: starting point: ``coco`` or ``coco-v3`` (bundled; ``auto`` is the one of the network that ``model``
            names, else ``coco-v3``), ``imagenet`` (a public backbone, downloaded once) or ``imagenet:PATH`` (a
            classifier's file of PyTorch, MXNet or Caffe), a weights file, or ``none``.
        size_hw: network input size; ``None`` keeps the model's.
        epochs, steps, minutes: length of the run, one of them; none means ``DEFAULT_EPOCHS``.
        batch_size: images per forward, of all devices together; ``auto`` fits the memory.
        accumulate: forwards per optimiser step; the effective batch is ``batch_size * accumulate``.
        start_step: optimiser steps that the weights have learnt already: schedule and count of steps begin there.
        tiling: learn from tiles of the pictures, too, and measure as ``predict --tile`` does; ``None`` does not.
        optimizer, schedule, ema, evaluation, checkpoints: see there; ``ema: null`` averages nothing.
        loss, match: the multibox loss; ``loss.classification`` also decides how scores are read afterwards.
        anchors: default boxes to use in place of the model's; ``auto`` scales the model's to the training objects.
        anchor_scale: factor for the sizes of the model's default boxes.
        augment: random changes: a preset (``ssd``, ``ssdlite``, ``light``, ``none``), or a mapping that changes one,
            such as ``{preset: light, flip: 0.5}``.
        amp: precision of the forward pass; ``auto`` takes bf16 where the machine is quicker with it.
        freeze: parts of the network that stay as they are: prefixes or patterns (``backbone``, ``backbone.conv1_*``) or
            regular expressions (``^(conv1_|conv2_).*``); see `singleshot.training.part_names.matching`; or ``none``.
            ``auto``, on a CPU: the learnt layers before maps of stride 8, which take half of the time. Recipes with a
            ``reference`` freeze only what they name.
        finetune: freeze all that is taken over from the starting point, but the predictors (as mxnet-ssd does).
        batch_norm: ``train`` updates statistics, ``eval`` keeps those of the starting point.
        sync_batch_norm: whether BatchNorm sees the images of all devices in training, as if one device had them all;
            ``auto``: where a device has fewer than 16. Where not, statistics are averaged before they are measured or
            saved.
        batch_norm_momentum: share of a batch in the running statistics; ``None`` is the model's (PyTorch's .1).
        keep_empty: train on images without objects as background.
        use_difficult: learn from objects marked difficult, as VOC's detectors do.
        repeat_threshold: show images of classes that are in fewer than this share of the images more often (LVIS); 0
            shows every image once an epoch.
        seed: of initialisation, shuffling and augmentation.
        workers: processes that prepare batches; ``auto`` leaves a core to the network.
        channels_last: memory layout of the network.
        compile: use ``torch.compile``.
        log_every: optimiser steps between two rows of the log.
        also_log: ``mxnet`` logs the two numbers of mxnet-ssd's ``MultiBoxMetric``, too (the mean over batches).
        monitor: optimiser steps between two looks at weights and gradients, written to ``monitor.csv``; 0 never looks.
        monitor_pattern: the parameters that it looks at, named as ``freeze`` names them; empty: all.
        save_minutes: time between two saves of the full training state.
        log: where numbers go besides ``metrics.csv``: ``tensorboard``, ``mlflow``, ``wandb``, or another of `LOGGERS`.
        reference: what the recipe should reach; ``None`` where nothing is published.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    data: DataConfig | None = None
    model: str | Annotated[dict[str, Any], BeforeValidator(_bounded)] | None = None
    weights: str = "auto"
    size_hw: SizeHW | None = None
    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None
    minutes: PositiveFloat | None = None
    batch_size: BatchSize = "auto"
    accumulate: PositiveInt = 1
    tiling: TilingConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    ema: EmaConfig | None = EmaConfig()
    start_step: Annotated[int, Field(ge=0)] = 0
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    loss: LossConfig = LossConfig()
    match: MatchConfig = MatchConfig()
    anchors: AnchorConfig | Literal["auto"] | None = None
    anchor_scale: PositiveFloat | None = None
    augment: Annotated[AugmentConfig, BeforeValidator(parse_augment)] = preset("light")
    amp: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    freeze: Annotated[tuple[str, ...] | Literal["auto"], BeforeValidator(_parts)] = "auto"
    finetune: bool = False
    batch_norm: Literal["train", "eval"] = "train"
    sync_batch_norm: bool | Literal["auto"] = "auto"
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] | None = None
    keep_empty: bool = True
    use_difficult: bool = True
    repeat_threshold: UnitFloat = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    channels_last: bool = True
    compile: bool = False
    log_every: PositiveInt = 20
    also_log: Literal["mxnet"] | None = None
    monitor: Annotated[int, Field(ge=0)] = 0
    monitor_pattern: str = ""
    save_minutes: PositiveFloat = 2.0
    log: Annotated[tuple[Annotated[str, AfterValidator(LOGGERS.check)], ...], BeforeValidator(_logger_names)] = ()
    reference: Reference | None = None

    @model_validator(mode="before")
    @classmethod
    def _names_of_today(cls, data: Any) -> Any:
        data = renamed(data, "batch", "batch_size")
        if isinstance(data, Mapping) and isinstance(data.get("tensorboard"), bool):
            wanted = ["tensorboard"] if data["tensorboard"] else []
            others = {key: value for key, value in data.items() if key != "tensorboard"}
            data = renamed({**others, "tensorboard": wanted}, "tensorboard", "log") if wanted else others
        is_published = isinstance(data, Mapping) and data.get("reference") is not None
        return {"freeze": (), **data} if is_published else data

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        given = [unit for unit in ("epochs", "steps", "minutes") if getattr(self, unit) is not None]
        if len(given) > 1:
            raise ValueError(f"a run has one length; given: {', '.join(given)}. Keep one of them")
        if self.start_step and (self.minutes is not None or self.start_step >= (self.steps or self.start_step + 1)):
            run = f"{self.length[1]:g} {self.length[0]}"
            raise ValueError(
                f"start_step: {self.start_step} lies in no run of {run}: give `epochs`, or `steps` above it"
            )
        if self.anchors is not None and self.anchor_scale is not None:
            raise ValueError("anchors and anchor_scale both say how large default boxes are; keep one of them")
        if self.schedule.milestones and self.schedule.milestones[-1] >= self.length[1]:
            length, unit = self.length[1], self.length[0]
            last, (digits, least) = self.schedule.milestones[-1], (None, 1) if length >= 10 else (3, 0.001)
            moved = sorted({max(least, round(length * at / (1.25 * last), digits)) for at in self.schedule.milestones})
            raise ValueError(
                f"schedule.milestones end at {last:g} but the run has only {length:g} {unit}: "
                f"move them, as by `schedule.milestones=[{','.join(map(str, moved))}]`"
            )
        return self

    @property
    def length(self) -> tuple[Unit, float]:
        """Unit and length of the run."""
        if self.steps is not None:
            return "steps", float(self.steps)
        if self.minutes is not None:
            return "minutes", self.minutes
        return "epochs", self.epochs if self.epochs is not None else DEFAULT_EPOCHS

    def updated(self, changes: Mapping[str, Any]) -> TrainConfig:
        """A copy with some settings changed; a new length replaces the old one whatever its unit.

        Args:
            changes: values by dotted key, such as ``{"optimizer.lr": 0.01, "minutes": 20}``.

        Raises:
            ConfigError: a key or value is wrong.
        """
        data = self.model_dump(mode="json")
        if any(unit in changes for unit in ("epochs", "steps", "minutes")):
            data = {key: value for key, value in data.items() if key not in ("epochs", "steps", "minutes")}
        for key, value in changes.items():
            _assign(data, key, value)
        return parse_config(data, "the options given")


def parse_config(data: Mapping[str, Any], origin: str) -> TrainConfig:
    """Settings from plain data.

    Args:
        data: nested mappings, as YAML gives them.
        origin: where they come from, for messages.

    Raises:
        ConfigError: with the dotted key, its value, and the nearest valid name of an unknown key.
    """
    try:
        return TrainConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain_settings(error, origin, TrainConfig)) from None
    except UnicodeEncodeError as error:  # bytes of the command line that are no UTF-8
        raise ConfigError(f"{origin}: a setting is no text: {error}") from None


def _assign(data: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = data.get(parent)
        data[parent] = dict(inner) if isinstance(inner, Mapping) else {}
        data = data[parent]
    data[last] = value
