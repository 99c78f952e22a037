"""The loop, and only the loop. It knows no files, no data sets and no models: everything is handed in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from singleshot.core.structures import Batch, HeadOutput, RefineOutput
from singleshot.images.normalise import ImageNormalizer
from singleshot.multibox.loss import full_precision
from singleshot.training.checkpoint import Best, Learner, RunState
from singleshot.training.guards import LossGuard, interruption
from singleshot.training.logs import EvaluationRecord, Observer, StepRecord
from singleshot.training.optimizer_config import ScheduleConfig
from singleshot.training.parts import BatchStream, Criterion, Intervals, Monitor, Store
from singleshot.training.precision import Precision
from singleshot.training.schedule import RunLength, lr_factor, shown_rate, warmth
from singleshot.training.window import Window
from singleshot.training.world import ALONE, World, gathering

Ending = Literal["finished", "interrupted", "early"]

# On an accelerator records come every ``log_every`` steps, since each waits for the device. Slow steps are told sooner.
RECORD_EVERY_S = 2.0

# Before the first evaluation its time is guessed: an image takes about half of what it takes to learn from.
FORWARD_SHARE = 0.5

# Positions are quotients: a third of 1.2 epochs must count as 0.4.
ROUNDING = 1e-6


@dataclass(slots=True)
class Trainer:
    """One training run.

    Attributes:
        learner: network, optimiser, average and scaler; changed in place.
        criterion: the loss.
        batches: training data.
        normalizer: from RGB images to network input; its device is the run's.
        length, schedule, intervals: when things happen.
        guard: stops on a loss that is not finite.
        store: keeps weights and state.
        evaluate: network to metrics; ``None`` never evaluates.
        metric: the metric that decides what is best. Evaluations before the end of the warm-up and values that are not
            numbers do not count.
        tolerance: a later value that is lower than the highest by at most so much is the best.
        patience: evaluations without a better metric before the run ends.
        min_delta: by more than so much it is better.
        held_out: images that an evaluation looks at.
        monitor: looks at weights and gradients.
        say: hears what the loop decides on its own.
        precision: of the forward pass.
        accumulate: batches per optimiser step.
        clip_norm: largest norm of the gradient.
        still: layers that stay in eval mode.
        observers: hear what happens.
        run: where the run stands.
        compiled: stands in for the network's forward pass, such as ``torch.compile``'s result.
        world: the processes that learn together. The loop of each makes the same decisions: they depend on counts, and
            on the first process's clock and measurements.
        own_statistics: running statistics of BatchNorm that each process has of its own batches; they are averaged
            before they are measured or saved.
    """

    learner: Learner
    criterion: Criterion
    batches: BatchStream
    normalizer: ImageNormalizer
    length: RunLength
    schedule: ScheduleConfig
    guard: LossGuard
    store: Store
    intervals: Intervals = field(default_factory=Intervals)
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None
    metric: str = "AP50"
    tolerance: float = 0.0
    patience: int | None = None
    min_delta: float = 0.0
    held_out: int = 0
    monitor: Monitor | None = None
    say: Callable[[str], None] = lambda text: None
    precision: Precision = field(default_factory=Precision)
    accumulate: int = 1
    clip_norm: float | None = None
    still: Sequence[nn.Module] = ()
    observers: Sequence[Observer] = ()
    run: RunState = field(default_factory=RunState)
    compiled: nn.Module | None = None
    world: World = ALONE
    own_statistics: Sequence[Tensor] = ()
    _parallel: nn.Module = field(init=False, repr=False)
    _recorded_s: float = field(init=False, repr=False, default=0.0)
    _window: Window = field(init=False, repr=False)
    _waiting: bool = field(init=False, repr=False, default=False)
    _tolerated: bool = field(init=False, repr=False, default=False)
    _checkpoints: int = field(init=False, repr=False, default=0)

    def fit(self) -> Ending:
        """Train until the run is over, the metric no longer improves, or someone asks to stop.

        Returns:
            How it ended. In each case the state and the last weights are saved.

        Raises:
            NonFiniteLossError: the loss or a weight is NaN or infinite; nothing of it is saved.
        """
        self._window = Window(self.world)
        self._train_mode()
        self._parallel = self.world.parallel(self.compiled or self.learner.network, self.normalizer.device)
        if not self.run.next_evaluation:
            self._plan_evaluation()
        self._checkpoints = self._passed(self.intervals.checkpoint)
        stream = self.batches.stream(self.run.step * self.accumulate)
        saved_s = self._recorded_s = self.run.elapsed_s
        with interruption(is_passed_on=self.world.size > 1) as stop_asked:
            while not self._finished():
                if self.patience is not None and self.run.stale >= self.patience:
                    self._record()
                    return "early"
                self._step(stream)
                if self._evaluation_due():
                    self._evaluate()
                    saved_s = self.run.elapsed_s
                self._keep_numbered()
                if self.world.any(stop_asked()):
                    self._record()
                    self._save()
                    return "interrupted"
                if self.run.elapsed_s - saved_s >= self.intervals.save_s:
                    self._save()
                    saved_s = self.run.elapsed_s
        self._record()
        self._evaluate(is_last=True)
        return "finished"

    def _step(self, stream: Iterator[Batch]) -> None:
        """One optimiser step: ``accumulate`` batches forward and backward, then the update."""
        started = time.perf_counter()
        factor = lr_factor(self.schedule, self.run.step, self._position(), self._total())
        for group in self.learner.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        for number in range(1, self.accumulate + 1):
            self._window.waiting()
            batch = next(stream)
            self._window.served(len(batch.indices))
            with gathering(self._parallel, number == self.accumulate):
                self._window.add(self._learn(batch))
        self._update()
        self.run.step += 1
        self.run.elapsed_s += self.world.first_number(time.perf_counter() - started)
        is_late = self.run.elapsed_s - self._recorded_s >= RECORD_EVERY_S
        if self.run.step % self.intervals.log == 0 or self.run.step == 1 or is_late:
            self._record()

    def _learn(self, batch: Batch) -> Mapping[str, Tensor]:
        """Forward and backward of one batch."""
        device = self.normalizer.device
        images, boxes_xyxy, class_ids, valid = (tensor.to(device, non_blocking=True) for tensor in batch[:4])
        images = self.normalizer(images)
        batch = Batch(images, boxes_xyxy, class_ids, valid, batch.indices)
        with self.precision.forward(device):
            output = self._parallel(images)
        losses = self.criterion(_in_float32(output), batch)
        self.guard.watch(self.run.step, losses["total"], batch)
        # Each process has its share of the loss; gradients become their mean.
        loss = losses["total"] * (self.world.size / self.accumulate)
        scaler = self.learner.scaler
        (scaler.scale(loss) if scaler else loss).backward()  # type: ignore[no-untyped-call]
        return losses

    def _update(self) -> None:
        """Clip, step, average."""
        optimizer, scaler = self.learner.optimizer, self.learner.scaler
        is_watched = self.monitor is not None and (self.run.step + 1) % self.monitor.every == 0
        if scaler and (is_watched or self.clip_norm is not None):
            scaler.unscale_(optimizer)
        if self.monitor is not None and is_watched:
            self.monitor.note(self.run.step + 1)
        if self.clip_norm is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_norm, foreach=True)
        if scaler:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if self.learner.ema:
            self.learner.ema.update()

    def _evaluate(self, is_last: bool = False) -> None:
        """Evaluate, remember whether it is the best, and save everything."""
        self._check()
        if self.evaluate is None:
            self._save()
            return
        started = time.perf_counter()
        network = self.learner.deployable
        metrics = self.world.first({name: float(value) for name, value in self.evaluate(network.eval()).items()})
        self._train_mode()
        duration_s = self.world.first_number(time.perf_counter() - started)
        best = self._note(metrics, is_last)
        self.run.evaluation_s = duration_s
        self.run.evaluations_s += duration_s
        self.run.elapsed_s += duration_s
        if best:
            self.store.save_weights("best", network, metrics)
        self._save(metrics)
        record = EvaluationRecord(self.run.step, self._epoch(), metrics, best, duration_s)
        for observer in self.observers:
            observer.on_evaluation(record)
        self._window.restart()
        self._recorded_s = self.run.elapsed_s

    def _plan_evaluation(self) -> None:
        self.run.next_evaluation = (self._passed(self.intervals.evaluate) + 1) * self.intervals.evaluate

    def _passed(self, interval: float) -> int:
        """How many whole intervals of the run are over."""
        return math.floor(self._position() / interval + ROUNDING) if interval else 0

    def _keep_numbered(self) -> None:
        """A numbered checkpoint where one is due."""
        passed = self._passed(self.intervals.checkpoint)
        if passed > self._checkpoints:
            self._check()
            self.store.save_numbered(self.learner, self.run)
        self._checkpoints = passed

    def _note(self, metrics: Mapping[str, float], is_last: bool) -> bool:
        """Whether this evaluation is the best so far; of those that are alike the later has learnt more."""
        self._plan_evaluation()
        value = float(metrics[self.metric])
        warm = warmth(self.schedule, self.run.step, self._position(), self._total())
        counts = is_last or warm >= 1
        if not counts or math.isnan(value):
            return False
        if self.run.bar is None or value > self.run.bar + self.min_delta:
            self.run.bar, self.run.stale = value, 0
        else:
            self.run.stale += 1
        highest = value if self.run.highest is None else max(value, self.run.highest)
        self.run.highest = highest
        if value < highest - self.tolerance:
            return False
        if value < highest and not self._tolerated:
            self._tolerated = True
            self.say(
                f"{self.metric} of {self.held_out:,} images is alike where it differs by at most {self.tolerance:.3f}: "
                "the last such weights are the best (evaluation.tolerance says otherwise)"
            )
        self.run.best = Best(value, self.run.step, {name: float(v) for name, v in metrics.items() if not math.isnan(v)})
        return True

    def _check(self) -> None:
        """All processes have the same numbers, and nothing that is not finite, before they are measured or saved."""
        self.world.average_(self.own_statistics)
        self.guard.check()
        self.guard.check_weights(self.run.step, self.learner.network, self.learner.deployable)

    def _save(self, metrics: Mapping[str, float] | None = None) -> None:
        self._check()
        self.store.save_weights("last", self.learner.deployable, metrics or {})
        self.store.save_state(self.learner, self.run)

    def _record(self) -> None:
        """Tell the observers about the steps since the last record, if there are any."""
        if not self._window.has_steps:
            return
        self._recorded_s = self.run.elapsed_s
        losses, images_per_s, wait_share = self._window.take()
        steps = self.length.steps(self.run.step, self.run.elapsed_s)
        left_s = self.run.elapsed_s / (self.run.step - self.run.first_step) * max(steps - self.run.step, 0)
        record = StepRecord(
            step=self.run.step,
            steps=steps,
            epoch=self._epoch(),
            epochs=steps / self.length.steps_per_epoch,
            lr=shown_rate(self.learner.optimizer.param_groups),
            losses=losses,
            images_per_s=images_per_s,
            wait_share=wait_share,
            remaining_s=self._total() * 60 - self.run.elapsed_s if self.length.unit == "minutes" else left_s,
        )
        for observer in self.observers:
            observer.on_step(record)

    def _evaluation_due(self) -> bool:
        if self.evaluate is None or not self.intervals.evaluate or self._finished():
            return False
        return self._position() >= self.run.next_evaluation - ROUNDING and self._affordable()

    def _affordable(self) -> bool:
        """Whether an evaluation now keeps to its share of the time; decides what is measured, not what is learnt."""
        run, share = self.run, self.intervals.evaluation_share
        likely_s = self._evaluation_s()
        if share >= 1 or run.evaluations_s + likely_s <= share * (run.elapsed_s + likely_s):
            return True
        if not self._waiting:
            self._waiting = True
            self.say(
                f"an evaluation of {self.held_out:,} images takes about {likely_s:.0f} s: there will be fewer, so that "
                f"they take at most {share:.0%} of the time (evaluation.every says otherwise)"
            )
        return False

    def _evaluation_s(self) -> float:
        """Seconds that the next evaluation will take: as the latest, before the first one as far as one can tell."""
        steps = self.run.step - self.run.first_step
        if self.evaluate is None or self.run.evaluation_s or not steps:
            return self.run.evaluation_s
        images = steps * self.accumulate * self.batches.batch_size
        return FORWARD_SHARE * self.held_out * self.run.elapsed_s / images

    def _total(self) -> float:
        """Length of the run; a time budget keeps room for the last evaluation."""
        if self.length.unit != "minutes":
            return self.length.total
        return max(self.length.total - self._evaluation_s() / 60, self.length.total / 2)

    def _finished(self) -> bool:
        if self.length.unit == "minutes":
            return self.run.elapsed_s / 60 >= self._total()
        return self.run.step >= self.length.steps(self.run.step, self.run.elapsed_s)

    def _position(self) -> float:
        return self.length.position(self.run.step, self.run.elapsed_s)

    def _epoch(self) -> float:
        return self.run.step / self.length.steps_per_epoch

    def _train_mode(self) -> None:
        self.learner.network.train()
        for layer in self.still:
            layer.eval()


def _in_float32(output: HeadOutput | RefineOutput) -> HeadOutput | RefineOutput:
    """Losses are computed in float32 whatever the network's precision, or in float64 if that is its own."""
    return type(output)._make(map(full_precision, output))
