from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from engine_fakes import RandomBatches, tiny_loss
from torch import Tensor, nn

from singleshot.core.structures import Batch, HeadOutput
from singleshot.training.checkpoint import Best
from singleshot.training.guards import LossGuard, NonFiniteLossError
from singleshot.training.logs import EvaluationRecord, StepRecord
from singleshot.training.loop import Trainer
from singleshot.training.optimizer_config import OptimizerConfig, ScheduleConfig
from singleshot.training.parts import Intervals
from singleshot.training.precision import Precision
from singleshot.training.schedule import RunLength

MakeTrainer = Callable[..., Trainer]


@dataclass
class Listener:
    steps: list[StepRecord] = field(default_factory=list)
    evaluations: list[EvaluationRecord] = field(default_factory=list)

    def on_step(self, record: StepRecord) -> None:
        self.steps.append(record)

    def on_evaluation(self, record: EvaluationRecord) -> None:
        self.evaluations.append(record)

    def close(self) -> None:
        pass


class StopsAt(RandomBatches):
    """Sends the process a signal when it serves a batch, as a user's Ctrl-C would."""

    def __init__(self, number: int) -> None:
        self.number = number

    def stream(self, first_batch: int) -> Iterator[Batch]:
        for number, batch in enumerate(super().stream(first_batch), first_batch):
            if number == self.number:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


def tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Everything that a run has learnt."""
    learner = trainer.learner
    assert learner.ema
    momenta = [v for state in learner.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return (
        {f"network.{k}": v for k, v in learner.network.state_dict().items()}
        | {f"ema.{k}": v for k, v in learner.ema.network.state_dict().items()}
        | {f"optimizer.{i}": v for i, v in enumerate(momenta)}
    )


def assert_same(a: Trainer, b: Trainer) -> None:
    one, two = tensors(a), tensors(b)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_the_last_steps_are_recorded_whatever_the_interval(make_trainer: MakeTrainer) -> None:
    listener = Listener()
    make_trainer(epochs=2, observers=[listener], intervals=Intervals(log=4)).fit()
    assert [record.step for record in listener.steps] == [1, 4, 5]


def test_numbered_checkpoints_are_asked_for_at_their_distance(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(epochs=4, intervals=Intervals(log=4, checkpoint=1.2))
    trainer.fit()
    assert [name for name in trainer.store.saved if name.isdigit()] == ["3", "6", "9"]


def test_a_run_has_the_steps_of_its_length(make_trainer: MakeTrainer) -> None:
    listener = Listener()
    trainer = make_trainer(epochs=4, observers=[listener])
    assert trainer.fit() == "finished"
    assert trainer.run.step == 10
    assert [record.step for record in listener.steps] == [1, 2, 4, 6, 8, 10]
    assert listener.steps[-1].epoch == pytest.approx(4.0)
    assert listener.steps[-1].losses["total"] < listener.steps[0].losses["total"]
    assert set(listener.steps[0].losses) == {"total", "localization", "classification"}
    assert 0 <= listener.steps[-1].wait_share <= 1


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_and_two_epochs_equal_four(make_trainer: MakeTrainer, name: str, accumulate: int) -> None:
    options = {"optimizer": OptimizerConfig(name=name, lr=0.01), "accumulate": accumulate, "clip_norm": 1.0}
    whole = make_trainer(**options)
    whole.fit()
    first = make_trainer(batches=StopsAt(4 if accumulate == 1 else 3), **options)
    assert first.fit() == "interrupted"
    assert 0 < first.run.step < whole.run.step
    second = make_trainer(resume=True, **options)
    assert second.run.step == first.run.step
    assert second.fit() == "finished"
    assert_same(second, whole)


def test_loss_scaling_changes_nothing_and_resumes(make_trainer: MakeTrainer) -> None:
    plain = make_trainer(clip_norm=1.0)
    plain.fit()

    def scaler() -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=3)

    whole = make_trainer(clip_norm=1.0, scaler=scaler())
    whole.fit()
    # Powers of two scale without rounding.
    assert_same(whole, plain)
    make_trainer(clip_norm=1.0, scaler=scaler(), batches=StopsAt(4)).fit()
    second = make_trainer(clip_norm=1.0, scaler=scaler(), resume=True)
    second.fit()
    assert_same(second, whole)
    assert second.learner.scaler.state_dict() == whole.learner.scaler.state_dict()
    assert second.learner.scaler.get_scale() > 2.0**4


def test_a_killed_run_goes_on_from_its_last_save(make_trainer: MakeTrainer) -> None:
    class Killed(RandomBatches):
        def stream(self, first_batch: int) -> Iterator[Batch]:
            for number, batch in enumerate(super().stream(first_batch), first_batch):
                if number == 6:
                    raise SystemExit
                yield batch

    whole = make_trainer()
    whole.fit()
    saves_always = Intervals(save_s=0.0)
    with pytest.raises(SystemExit):
        make_trainer(batches=Killed(), intervals=saves_always).fit()
    second = make_trainer(resume=True)
    assert second.run.step == 6
    second.fit()
    assert_same(second, whole)


def test_accumulation_is_the_mean_gradient(make_trainer: MakeTrainer) -> None:
    listener = Listener()
    trainer = make_trainer(
        accumulate=2, epochs=0.5, schedule=ScheduleConfig(kind="constant", warmup_steps=0), observers=[listener]
    )
    network = trainer.learner.network
    before = network.head.bias.detach().clone()
    batches = trainer.batches.stream(0)
    twin = make_trainer().learner.network
    for _ in range(2):
        batch = next(batches)
        output = twin(trainer.normalizer(batch.images))
        (tiny_loss(output, batch)["total"] / 2).backward()
    trainer.fit()
    assert trainer.run.step == 1
    torch.testing.assert_close(network.head.bias, before - 0.05 * twin.head.bias.grad)


def test_the_rate_follows_the_schedule(make_trainer: MakeTrainer) -> None:
    listener = Listener()
    schedule = ScheduleConfig(kind="multistep", milestones=(2.0,), warmup_steps=2, warmup_factor=0.5)
    make_trainer(schedule=schedule, observers=[listener], intervals=Intervals(log=1)).fit()
    expected = [0.025, 0.0375, 0.05, 0.05, 0.05, 0.005, 0.005, 0.005, 0.005, 0.005]
    assert [record.lr for record in listener.steps] == pytest.approx(expected)


NO_WARMUP = ScheduleConfig(kind="constant", warmup_steps=0)


def evaluated(make_trainer: MakeTrainer, values: list[float], **options: Any) -> tuple[Trainer, Listener, str]:
    """A run of which every step is evaluated, with these results, until it ends."""
    left, listener = iter(values), Listener()
    options = {"schedule": NO_WARMUP, "epochs": 0.4 * len(values)} | options
    trainer = make_trainer(
        evaluate=lambda network: {"AP50": next(left)},
        intervals=Intervals(evaluate=0.4), observers=[listener], **options
    )  # fmt: skip
    return trainer, listener, trainer.fit()


def test_evaluation_keeps_the_best_and_stops_when_stale(make_trainer: MakeTrainer) -> None:
    trainer, listener, ending = evaluated(make_trainer, [0.2, 0.5, 0.4, 0.5, 0.9], patience=2)
    assert ending == "early"
    assert [(r.metrics["AP50"], r.best) for r in listener.evaluations] == [
        (0.2, True),
        (0.5, True),
        (0.4, False),
        (0.5, True),  # of equal ones the later has learnt more
    ]
    assert [r.step for r in listener.evaluations] == [1, 2, 3, 4]
    saved = ["best", "last", "state"]
    assert trainer.store.saved == [*saved, *saved, "last", "state", *saved]
    assert (trainer.run.best, trainer.run.stale) == (Best(0.5, 4, {"AP50": 0.5}), 2)
    assert trainer.learner.network.training


def test_of_evaluations_that_are_alike_the_last_is_the_best(make_trainer: MakeTrainer) -> None:
    said: list[str] = []
    values = [0.30, 0.28, 0.27, 0.25, 0.28, 0.24]  # 0.27 is too low though 0.28, the best before it, is near
    trainer, listener, _ = evaluated(make_trainer, values, patience=9, tolerance=0.025, held_out=53, say=said.append)
    assert [record.best for record in listener.evaluations] == [True, True, False, False, True, False]
    assert trainer.run.best == Best(0.28, 5, {"AP50": 0.28})
    assert (trainer.run.highest, trainer.run.stale) == (0.30, 5)  # patience goes by the numbers
    assert said == [
        "AP50 of 53 images is alike where it differs by at most 0.025: the last such weights are the best "
        "(evaluation.tolerance says otherwise)"
    ]


@pytest.mark.parametrize(
    ("values", "warmup", "best_step"),
    [
        ([0.9, 0.8, 0.3, 0.4], 3, 4),
        ([0.9, 0.8, 0.3, 0.2], 3, 3),
        ([0.9, 0.8, 0.3, 0.2], 50, 4),  # the last always counts
        ([0.1, float("nan"), 0.2, float("nan")], 0, 3),
        ([float("nan")] * 4, 0, 0),
    ],
)
def test_what_does_not_count(make_trainer: MakeTrainer, values: list[float], warmup: int, best_step: int) -> None:
    schedule = ScheduleConfig(kind="constant", warmup_steps=warmup)
    trainer, listener, ending = evaluated(make_trainer, values, schedule=schedule, patience=3)
    assert ending == "finished"
    assert (trainer.run.best.step if trainer.run.best else 0) == best_step
    assert [r.step for r in listener.evaluations if r.best][-1:] == ([best_step] if best_step else [])


def test_small_gains_count_once_they_add_up(make_trainer: MakeTrainer) -> None:
    values = [0.20, 0.24, 0.28, 0.32, 0.33, 0.34, 0.9]
    trainer, _, ending = evaluated(make_trainer, values, patience=3, min_delta=0.1)
    assert (ending, trainer.run.step) == ("finished", 7)
    trainer, _, ending = evaluated(make_trainer, values, patience=2, min_delta=0.1)
    assert (ending, trainer.run.step, trainer.run.best) == ("early", 3, Best(0.28, 3, {"AP50": 0.28}))


def test_a_stopped_run_ends_early_where_an_unbroken_one_does(make_trainer: MakeTrainer) -> None:
    values = [0.20, 0.24, 0.31, 0.32, 0.33, 0.34, 0.9, 0.95]
    options: dict[str, Any] = {
        "evaluate": lambda network: {"AP50": values[len(evaluations)]}, "intervals": Intervals(evaluate=0.4),
        "patience": 3, "min_delta": 0.1, "schedule": NO_WARMUP, "epochs": 40,
    }  # fmt: skip
    for stop in (3, 4, 5):
        evaluations: list[EvaluationRecord] = []
        listener = Listener(evaluations=evaluations)
        assert make_trainer(batches=StopsAt(stop), observers=[listener], **options).fit() == "interrupted"
        trainer = make_trainer(resume=True, observers=[listener], **options)
        assert trainer.fit() == "early"
        assert (trainer.run.step, trainer.run.stale, trainer.run.bar) == (6, 3, 0.31)
        again = make_trainer(resume=True, observers=[listener], **options)
        assert (again.fit(), again.run.step, len(evaluations)) == ("early", 6, 6)


def test_evaluations_keep_to_their_share_of_the_time(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, said, listener = [0.0], [], Listener()

    def evaluate(network: nn.Module) -> Mapping[str, float]:
        now[0] += 10.0
        return {"AP50": 0.1}

    class Slow(RandomBatches):
        def stream(self, first_batch: int) -> Iterator[Batch]:
            for batch in super().stream(first_batch):
                now[0] += 1.0
                yield batch

    monkeypatch.setattr("singleshot.training.loop.time.perf_counter", lambda: now[0])
    options: dict[str, Any] = {"batches": Slow(), "epochs": 80, "schedule": NO_WARMUP, "held_out": 80}
    run = make_trainer(
        evaluate=evaluate, intervals=Intervals(evaluate=0.4, evaluation_share=0.15),
        observers=[listener], say=said.append, **options
    )  # fmt: skip
    run.fit()
    steps = [record.step for record in listener.evaluations]
    assert steps[0] >= 50
    assert len(steps) == 4
    assert sum(r.duration_s for r in listener.evaluations[:-1]) <= 0.15 * run.run.elapsed_s
    assert [line.partition(":")[0] for line in said] == ["an evaluation of 80 images takes about 10 s"]
    free = make_trainer(**options)
    free.fit()
    assert_same(run, free)


def test_weights_that_are_not_finite_are_never_saved(make_trainer: MakeTrainer) -> None:
    class Spoils(RandomBatches):
        def stream(self, first_batch: int) -> Iterator[Batch]:
            for number, batch in enumerate(super().stream(first_batch), first_batch):
                if number == 3:
                    with torch.no_grad():
                        trainer.learner.optimizer.param_groups[0]["params"][0].view(-1)[0] = float("inf")
                yield batch

    def ignores_the_network(output: HeadOutput, batch: Batch) -> Mapping[str, Tensor]:
        return {"total": output.box_codes.nan_to_num().sum() * 0}

    trainer = make_trainer(
        batches=Spoils(), criterion=ignores_the_network, evaluate=lambda n: {"AP50": 0.5}, schedule=NO_WARMUP,
        intervals=Intervals(evaluate=1.2),
    )  # fmt: skip
    with pytest.raises(NonFiniteLossError, match="hold numbers that are not finite"):
        trainer.fit()
    assert trainer.store.saved == ["best", "last", "state"]


def test_the_last_steps_are_recorded_however_a_run_ends(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("singleshot.training.loop.RECORD_EVERY_S", 1000)  # of a busy machine
    seldom, listener = Intervals(log=100), Listener()
    make_trainer(intervals=seldom, observers=[listener]).fit()
    assert [record.step for record in listener.steps] == [1, 10]
    listener.steps.clear()
    make_trainer(intervals=seldom, observers=[listener], batches=StopsAt(4)).fit()
    assert [record.step for record in listener.steps] == [1, 5]


def test_while_nothing_is_found_the_latest_weights_are_the_best(make_trainer: MakeTrainer) -> None:
    listener = Listener()
    trainer = make_trainer(
        evaluate=lambda network: {"AP50": 0.0},
        intervals=Intervals(evaluate=0.4), patience=2, epochs=40, observers=[listener], schedule=NO_WARMUP
    )  # fmt: skip
    assert trainer.fit() == "early"
    assert [record.best for record in listener.evaluations] == [True] * 3
    assert (trainer.run.best, trainer.run.stale) == (Best(0.0, 3, {"AP50": 0.0}), 2)


def test_the_last_evaluation_is_at_the_end_and_only_once(make_trainer: MakeTrainer) -> None:
    listener = Listener()
    trainer = make_trainer(evaluate=lambda n: {"AP50": 0.1}, intervals=Intervals(evaluate=2.0), observers=[listener])
    trainer.fit()
    assert [record.step for record in listener.evaluations] == [5, 10]


def test_resuming_does_not_evaluate_twice(make_trainer: MakeTrainer) -> None:
    listener = Listener()
    options = {"evaluate": lambda n: {"AP50": 0.1}, "intervals": Intervals(evaluate=1.2), "observers": [listener]}
    make_trainer(batches=StopsAt(4), **options).fit()
    make_trainer(resume=True, **options).fit()
    assert [record.step for record in listener.evaluations] == [3, 6, 9, 10]


def test_a_bad_loss_stops_before_it_is_learnt(make_trainer: MakeTrainer) -> None:
    def spoiled(output: HeadOutput, batch: Batch) -> Mapping[str, Tensor]:
        losses = dict(tiny_loss(output, batch))
        if 4 in batch.indices:
            losses["total"] = losses["total"] * float("nan")
        return losses

    trainer = make_trainer(criterion=spoiled)
    with pytest.raises(NonFiniteLossError, match=r"(?s)step 1;.*\n  4\.jpg\n  5\.jpg"):
        trainer.fit()
    assert all(torch.isfinite(v).all() for v in tensors(trainer).values())


def test_a_seldom_look_never_saves_spoiled_weights(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(
        criterion=lambda o, b: {"total": tiny_loss(o, b)["total"] * float("nan")},
        guard=LossGuard(str, every=100),
        intervals=Intervals(save_s=0.0),
    )
    with pytest.raises(NonFiniteLossError):
        trainer.fit()
    assert trainer.store.saved == []


def test_a_time_budget_ends_in_time_with_the_rate_at_its_end(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def tick() -> float:
        now[0] += 0.05
        return now[0]

    monkeypatch.setattr("singleshot.training.loop.time.perf_counter", tick)
    listener = Listener()
    trainer = make_trainer(length=RunLength("minutes", 0.5, 2.5), observers=[listener], intervals=Intervals(log=1))
    assert trainer.fit() == "finished"
    assert 29 < trainer.run.elapsed_s < 32
    assert listener.steps[-1].lr < 0.001
    assert listener.steps[-1].remaining_s < 1


def test_still_layers_stay_in_eval_mode(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(optimizer=OptimizerConfig(name="sgd", lr=1e-6))
    norm = trainer.learner.network.backbone[1]
    trainer.still = [norm]
    before = norm.running_mean.clone()
    trainer.fit()
    assert torch.equal(norm.running_mean, before)


def test_bf16_keeps_the_loss_and_the_weights_in_float32(make_trainer: MakeTrainer) -> None:
    kinds = set()

    def loss(output: HeadOutput, batch: Batch) -> Mapping[str, Tensor]:
        kinds.add(output.class_logits.dtype)
        return tiny_loss(output, batch)

    trainer = make_trainer(precision=Precision(torch.bfloat16), criterion=loss)
    trainer.fit()
    assert kinds == {torch.float32}
    assert {p.dtype for p in trainer.learner.network.parameters()} == {torch.float32}
