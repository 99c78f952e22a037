"""Settings of what changes the weights: optimiser, schedule, average. No torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from singleshot.core.settings import Frozen, UnitFloat
from singleshot.training.registry import OPTIMIZERS, SCHEDULES

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class OptimizerConfig(Frozen):
    """How gradients change weights.

    Attributes:
        name: ``adamw``, quick on small data; ``sgd`` (with momentum), the papers'; ``adam``, ``rmsprop``, ``adadelta``;
            or another of `OPTIMIZERS`.
        lr: learning rate of the weights; ``auto`` takes the optimiser's usual one, scaled to the batch.
        lr_batch: effective batch that ``lr`` was chosen for: another batch scales ``lr`` linearly (SGD) or by the root
            (the others). ``None`` uses ``lr`` as it is.
        momentum: of SGD; the first beta of AdamW and Adam; of RMSProp and Adadelta, how slowly squared gradients are
            forgotten.
        weight_decay: of weights; ``auto`` is 5e-4 for SGD and RMSProp, 0.01 for AdamW (which does not scale it by the
            gradient's size), else 0. ``decay_norm`` and ``decay_bias`` tell about the rest.
        decay_norm, decay_bias: whether scales of normalisation layers and biases decay too (Caffe: scales do).
        l2_decay_factor: decay of the scales of L2Norm as a multiple of ``weight_decay`` (mxnet-ssd: .1); ``None`` is as
            ``decay_norm`` says.
        bias_lr_factor: learning rate of biases as a multiple (Caffe: 2).
        bias_lr_parts: the parts whose biases ``bias_lr_factor`` is for (mxnet-ssd: ``[extras, head]``); ``None``: all.
        lr_factors: multiples of ``lr`` by part of the network, such as ``{backbone: 0.1}``; the longest prefix counts.
            ``auto``, of AdamW: 4 in a detector's head that learns 20 classes or more which its starting point does not
            know.
        clip_norm: largest norm of the whole gradient; ``None`` does not clip.
    """

    name: Annotated[str, AfterValidator(OPTIMIZERS.check)] = "adamw"
    lr: PositiveFloat | Literal["auto"] = "auto"
    lr_batch: PositiveInt | None = None
    momentum: UnitFloat = 0.9
    weight_decay: NonNegative | Literal["auto"] = "auto"
    decay_norm: bool = False
    decay_bias: bool = False
    l2_decay_factor: NonNegative | None = None
    bias_lr_factor: PositiveFloat = 1.0
    bias_lr_parts: tuple[str, ...] | None = None
    lr_factors: dict[str, NonNegative] | Literal["auto"] = "auto"
    clip_norm: PositiveFloat | None = None


class ScheduleConfig(Frozen):
    """How the learning rate moves; positions are in the unit of the run's length (epochs, steps or minutes).

    Attributes:
        kind: ``multistep`` multiplies by ``gamma`` at each milestone; ``cosine`` falls to ``final_factor`` at the end;
            ``constant``; or another of `SCHEDULES`.
        milestones: positions of the drops of ``multistep``.
        gamma: factor of each drop.
        final_factor: where ``cosine`` ends, as a fraction of the learning rate.
        warmup_steps: optimiser steps of linear warm-up, always in steps; ``auto`` is 50, or a tenth of a run that is
            shorter than 500.
        warmup_factor: where warm-up begins, as a fraction of the learning rate.
    """

    kind: Annotated[str, AfterValidator(SCHEDULES.check)] = "cosine"
    milestones: tuple[PositiveFloat, ...] = ()
    gamma: UnitFloat = 0.1
    final_factor: UnitFloat = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    warmup_factor: UnitFloat = 0.1

    @model_validator(mode="after")
    def _milestones_fit(self) -> Self:
        if self.kind == "multistep" and not self.milestones:
            raise ValueError("multistep needs milestones, such as [80000, 100000]")
        if self.kind in ("cosine", "constant") and self.milestones:
            raise ValueError(f"milestones mean nothing to a {self.kind} schedule; use kind: multistep")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise; they are {list(self.milestones)}")
        return self


class EmaConfig(Frozen):
    """Moving average of the weights; the average is what is evaluated and saved.

    Attributes:
        decay: of the average once it is warm. It starts low, ``(1 + t) / (10 + t)``, so that a short run averages over
            its last tenth and not over its start.
    """

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9998
